//! The committed postings: tantivy as a store of (term, document, frequency), nothing more.
//!
//! The engine's scores, statistics, order and deletions are never used. One writer thread adds rows
//! in order, so a segment's documents are runs of consecutive rows; the map from document to row is
//! read once per segment and kept while the segment lives.

use super::column::{Column, Columns, SPARSEST};
use super::{Cursor, LexicalError};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tantivy::index::SegmentId;
use tantivy::schema::{
    FAST, Field, IndexRecordOption, Schema, TantivyDocument, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};
use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, InvertedIndexReader, ReloadPolicy, Searcher,
};

/// Stands between terms in the text given to the engine; no term may hold it.
pub const SEPARATOR: char = '\u{1f}';

/// Version of schema and cursor; a change makes every index be built again.
const LAYOUT: &str = "lexical/1";

/// The engine's smallest arena; a commit empties it.
const ARENA_BYTES: usize = 15_000_000;

const TERMS: &str = "terms";
const ROW: &str = "row";
const TOKENIZER: &str = "separated";

/// A row that waits for a commit.
pub struct Pending {
    row: u32,
    text: String,
}

impl Pending {
    /// `terms` must not hold [`SEPARATOR`].
    pub fn new(row: u32, terms: &[String]) -> Self {
        Self {
            row,
            text: terms.join(SEPARATOR.encode_utf8(&mut [0; 4])),
        }
    }
}

/// Each distinct term with its number of occurrences, in byte order.
pub fn term_counts(terms: &[String]) -> Vec<(&str, u32)> {
    let mut sorted: Vec<&str> = terms.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut counts: Vec<(&str, u32)> = Vec::with_capacity(sorted.len());
    for term in sorted {
        match counts.last_mut() {
            Some((last, count)) if *last == term => *count += 1,
            _ => counts.push((term, 1)),
        }
    }
    counts
}

/// The committed segments at one moment.
pub struct Committed {
    segments: Vec<Arc<Segment>>,
    /// Keeps the segments' files from being removed.
    _searcher: Searcher,
}

impl Committed {
    /// The segments, in no particular order.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }
}

/// One immutable segment.
pub struct Segment {
    postings: Arc<InvertedIndexReader>,
    rows: RowMap,
    /// Its rows lie in this range; some rows there may be of other segments.
    span: Range<u32>,
    documents: u32,
    columns: Columns,
}

/// From the engine's document number to the row.
enum RowMap {
    /// Row = document + this.
    Offset(u32),
    Table(Vec<u32>),
}

impl RowMap {
    /// From the first row to past the last one of so many documents.
    fn span(&self, documents: u32) -> Range<u32> {
        match self {
            Self::Offset(offset) => *offset..offset + documents,
            Self::Table(table) => {
                let first = table.iter().min().copied().unwrap_or(0);
                first..table.iter().max().map_or(first, |last| last + 1)
            }
        }
    }
}

impl Segment {
    fn new(postings: Arc<InvertedIndexReader>, rows: RowMap, documents: u32) -> Self {
        let span = rows.span(documents);
        Self {
            postings,
            rows,
            span,
            documents,
            columns: Columns::default(),
        }
    }

    /// The term's column, made now if it was not asked for before. None: read its postings, since it is
    /// rare here, or the segment's rows lie far apart, or there are columns enough.
    pub fn column(
        &self,
        term: &str,
        rows_buffer: &mut Vec<u32>,
    ) -> Result<Option<Arc<Column>>, LexicalError> {
        if let Some(known) = self.columns.get(term) {
            return Ok(known);
        }
        let rows = self.span.len();
        if rows > 2 * self.documents as usize || !self.columns.has_room() {
            return Ok(None);
        }
        let frequent = |holders: u32| holders as usize * SPARSEST >= rows;
        let info = self.postings.terms().get(term.as_bytes())?;
        if !info.is_some_and(|info| frequent(info.doc_freq)) {
            return Ok(None);
        }
        let mut column = Column::new(self.span.start, self.span.end);
        let mut fits = true;
        self.read(term, rows_buffer, |rows, frequencies| {
            fits = fits && column.put(rows, frequencies);
        })?;
        let column = fits.then(|| Arc::new(column));
        self.columns.keep(term, column.clone());
        Ok(column)
    }

    /// Passes the term's postings to `take` block by block: rows, and how often each has the term.
    pub fn read(
        &self,
        term: &str,
        rows_buffer: &mut Vec<u32>,
        mut take: impl FnMut(&[u32], &[u32]),
    ) -> Result<(), LexicalError> {
        let Some(info) = self.postings.terms().get(term.as_bytes())? else {
            return Ok(());
        };
        let mut block = self
            .postings
            .read_block_postings_from_terminfo(&info, IndexRecordOption::WithFreqs)?;
        while block.block_len() > 0 {
            rows_buffer.clear();
            match &self.rows {
                RowMap::Offset(offset) => {
                    rows_buffer.extend(block.docs().iter().map(|document| document + offset));
                }
                RowMap::Table(table) => {
                    rows_buffer.extend(
                        block
                            .docs()
                            .iter()
                            .map(|document| table[*document as usize]),
                    );
                }
            }
            take(rows_buffer, block.freqs());
            block.advance();
        }
        Ok(())
    }
}

/// Writes commits and opens what they hold.
pub struct Engine {
    index: Index,
    reader: IndexReader,
    writer: Option<IndexWriter>,
    terms: Field,
    row: Field,
    /// Segments of the last commit, to be kept over the next.
    known: HashMap<SegmentId, Arc<Segment>>,
}

impl Engine {
    /// Opens or creates the index in `dir` and checks that it is ours and whole.
    pub fn open(dir: &Path) -> Result<(Self, Committed, Option<Cursor>), LexicalError> {
        let (schema, terms, row) = schema();
        let index = open_index(dir, &schema)?;
        index
            .tokenizers()
            .register(TOKENIZER, TextAnalyzer::from(Separated::default()));
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()?;
        let mut engine = Self {
            index,
            reader,
            writer: None,
            terms,
            row,
            known: HashMap::new(),
        };
        let cursor = engine.cursor()?;
        let (committed, rows) = engine.load()?;
        let expected = cursor.as_ref().map_or(0, |cursor| cursor.rows);
        if rows != u64::from(expected) {
            let problem = format!("its cursor says {expected} rows, its segments hold {rows}");
            return Err(LexicalError::Corrupt { problem });
        }
        Ok((engine, committed, cursor))
    }

    /// Adds `batch` and makes it durable together with `cursor`. After an error nothing was added.
    pub fn commit(
        &mut self,
        batch: &[Pending],
        cursor: &Cursor,
    ) -> Result<Committed, LexicalError> {
        let outcome = self.write(batch, cursor);
        if outcome.is_err() {
            // Documents that were handed over but not committed vanish with the writer.
            self.writer = None;
        }
        outcome?;
        self.reader.reload()?;
        Ok(self.load()?.0)
    }

    /// Ends the writer's threads once running merges are done.
    pub fn rest(&mut self) -> Result<(), LexicalError> {
        match self.writer.take() {
            Some(writer) => Ok(writer.wait_merging_threads()?),
            None => Ok(()),
        }
    }

    fn write(&mut self, batch: &[Pending], cursor: &Cursor) -> Result<(), LexicalError> {
        let (terms, row) = (self.terms, self.row);
        let writer = self.writer()?;
        for pending in batch {
            let mut document = TantivyDocument::default();
            document.add_text(terms, &pending.text);
            document.add_u64(row, u64::from(pending.row));
            writer.add_document(document)?;
        }
        let mut prepared = writer.prepare_commit()?;
        prepared.set_payload(&encode(cursor));
        prepared.commit()?;
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut IndexWriter, LexicalError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let options = tantivy::indexer::IndexWriterOptions::builder()
                    .num_worker_threads(1)
                    .num_merge_threads(1)
                    .memory_budget_per_thread(ARENA_BYTES)
                    .build();
                self.index.writer_with_options(options)?
            }
        };
        Ok(self.writer.insert(writer))
    }

    fn cursor(&self) -> Result<Option<Cursor>, LexicalError> {
        self.index
            .load_metas()?
            .payload
            .map(|payload| decode(&payload))
            .transpose()
    }

    /// Opens the segments of the last commit; those known already are kept. Also counts their rows.
    fn load(&mut self) -> Result<(Committed, u64), LexicalError> {
        let searcher = self.reader.searcher();
        let mut known = HashMap::new();
        let mut segments = Vec::new();
        let mut rows = 0;
        for reader in searcher.segment_readers() {
            rows += u64::from(reader.max_doc());
            let segment = match self.known.get(&reader.segment_id()) {
                Some(segment) => Arc::clone(segment),
                None => Arc::new(Segment::new(
                    reader.inverted_index(self.terms)?,
                    row_map(reader)?,
                    reader.max_doc(),
                )),
            };
            known.insert(reader.segment_id(), Arc::clone(&segment));
            segments.push(segment);
        }
        self.known = known;
        Ok((
            Committed {
                segments,
                _searcher: searcher,
            },
            rows,
        ))
    }
}

fn schema() -> (Schema, Field, Field) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::WithFreqs);
    let terms = schema.add_text_field(TERMS, TextOptions::default().set_indexing_options(indexing));
    let row = schema.add_u64_field(ROW, FAST);
    (schema.build(), terms, row)
}

fn open_index(dir: &Path, schema: &Schema) -> Result<Index, LexicalError> {
    let directory = tantivy::directory::MmapDirectory::open(dir)
        .map_err(|error| LexicalError::Storage(error.into()))?;
    if Index::exists(&directory).map_err(|error| LexicalError::Storage(error.into()))? {
        let index = Index::open(directory)?;
        if index.schema() != *schema {
            return Err(mismatch("another schema"));
        }
        return Ok(index);
    }
    let settings = IndexSettings {
        docstore_compression: tantivy::store::Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    };
    Ok(Index::create(directory, schema.clone(), settings)?)
}

fn row_map(reader: &tantivy::SegmentReader) -> Result<RowMap, LexicalError> {
    let column = reader.fast_fields().u64(ROW)?;
    let documents = reader.max_doc();
    if column.values.num_vals() != documents {
        let problem = format!(
            "{} of {documents} documents have a row",
            column.values.num_vals()
        );
        return Err(LexicalError::Corrupt { problem });
    }
    let mut rows = vec![0u64; documents as usize];
    column.values.get_range(0, &mut rows);
    let table: Vec<u32> = rows
        .into_iter()
        .map(u32::try_from)
        .collect::<Result<_, _>>()
        .map_err(|_| LexicalError::Corrupt {
            problem: "a row number exceeds 32 bits".into(),
        })?;
    let first = table.first().copied().unwrap_or(0);
    let consecutive = (first..)
        .zip(&table)
        .all(|(expected, row)| expected == *row);
    Ok(if consecutive {
        RowMap::Offset(first)
    } else {
        RowMap::Table(table)
    })
}

/// `layout analyzer` on the first line, rows on the second, then the caller's payload.
fn encode(cursor: &Cursor) -> String {
    format!("{}\n{}\n{}", format_name(), cursor.rows, cursor.payload)
}

fn decode(text: &str) -> Result<Cursor, LexicalError> {
    let mut parts = text.splitn(3, '\n');
    let found = parts.next().unwrap_or_default();
    if found != format_name() {
        return Err(mismatch(found));
    }
    let rows = parts.next().and_then(|rows| rows.parse().ok());
    match (rows, parts.next()) {
        (Some(rows), Some(payload)) => Ok(Cursor {
            rows,
            payload: payload.to_owned(),
        }),
        _ => Err(LexicalError::Corrupt {
            problem: "its cursor cannot be read".into(),
        }),
    }
}

fn format_name() -> String {
    format!("{LAYOUT} {}", crate::analyzer::ANALYZER)
}

fn mismatch(found: &str) -> LexicalError {
    LexicalError::Mismatch {
        expected: format_name(),
        found: found.to_owned(),
    }
}

/// Splits at [`SEPARATOR`]; the terms were made before.
#[derive(Clone, Default)]
struct Separated {
    token: Token,
}

struct SeparatedStream<'a> {
    terms: std::str::Split<'a, char>,
    token: &'a mut Token,
}

impl Tokenizer for Separated {
    type TokenStream<'a> = SeparatedStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> SeparatedStream<'a> {
        self.token.reset();
        SeparatedStream {
            terms: text.split(SEPARATOR),
            token: &mut self.token,
        }
    }
}

impl TokenStream for SeparatedStream<'_> {
    fn advance(&mut self) -> bool {
        // A row without terms is an empty text, which splits into one empty term.
        let Some(term) = self.terms.find(|term| !term.is_empty()) else {
            return false;
        };
        self.token.text.clear();
        self.token.text.push_str(term);
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
