use std::path::Path;
use std::process::Command;

use super::super::tests::{appended, attribute, found};
use super::*;

pub(super) fn commit(
    hash: char,
    parents: &str,
    subject: &str,
    body: &str,
    changes: &str,
) -> String {
    let hash = hash.to_string().repeat(40);
    let date = "2026-11-20T10:00:00+01:00";
    format!(
        "\0commit\0{hash}\0{parents}\0Ada\0ada@example.org\0{date}\0{date}\0{subject}\0{body}\0\n{changes}"
    )
}

const CHANGE: &str = "\n:100644 100644 1111111 2222222 M\tsrc/a.rs\n:000000 100644 0000000 3333333 A\t\"d\\303\\244/t\\tab.py\"\n:100644 100644 4444444 4444444 R100\told.md\tnew.md\n\ndiff --git a/src/a.rs b/src/a.rs\nindex 1..2 100644\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1 +1 @@\n-diff --git a/x b/x\n+\0commit\0fake\ndiff --git \"a/d\\303\\244/t\\tab.py\" \"b/d\\303\\244/t\\tab.py\"\nnew file mode 100644\n";

#[test]
fn a_commit_becomes_a_diff_with_its_files_and_parents() {
    let parent = "b".repeat(40);
    let report = commit('a', &parent, "Fix it", "Because.\n\ncommit ffff\n", CHANGE)
        + &commit(
            'c',
            &format!("{parent} {}", "a".repeat(40)),
            "Merge",
            "",
            "",
        );
    let (drafts, refusals) = found("git", report.as_bytes()).unwrap();
    assert_eq!(refusals, []);
    assert_eq!(drafts.len(), 2);
    let draft = drafts[0].clone().checked().unwrap();
    assert_eq!(draft.title, "Fix it");
    assert_eq!(
        draft.record_id.as_ref().unwrap().as_str(),
        format!("commit:{}", "a".repeat(40))
    );
    assert_eq!(draft.author, "Ada <ada@example.org>");
    assert_eq!(
        draft.event_time.unwrap().to_string(),
        "2026-11-20T09:00:00Z"
    );
    let links: Vec<String> = draft
        .links
        .iter()
        .map(|link| format!("{} {}", link.relation, link.target))
        .collect();
    assert_eq!(
        links,
        [
            format!("commit {parent}"),
            "file dä/t\tab.py".into(),
            "file new.md".into(),
            "file old.md".into(),
            "file src/a.rs".into()
        ]
        .map(|link: String| link.replace('\t', " "))
    );
    assert_eq!(draft.tags, ["dä", "markdown", "python", "rust", "src"]);
    assert_eq!(attribute(&draft, "files"), Some("3"));
    assert!(
        draft
            .text
            .starts_with("Fix it\n\nBecause.\n\ncommit ffff\n\ndiff --git a/src/a.rs"),
        "{}",
        draft.text
    );
    assert!(
        draft.text.contains("+commitfake\n") && draft.text.contains("new file mode"),
        "{}",
        draft.text
    );
    assert_eq!(drafts[1].tags, ["merge"]);
    assert_eq!(drafts[1].text, "Merge");
}

#[test]
fn long_diffs_are_cut_file_by_file() {
    let mut changes = String::new();
    for file in 0..40 {
        changes += &format!(":100644 100644 1 2 M\tf{file}.txt\n");
    }
    for file in 0..40 {
        changes += &format!(
            "diff --git a/f{file}.txt b/f{file}.txt\n--- a/f{file}.txt\n+++ b/f{file}.txt\n"
        );
        changes.extend((0..6_000).map(|line| format!("+line {line}\n")));
    }
    let (drafts, _) = found("git", commit('a', "", "Big", "", &changes).as_bytes()).unwrap();
    let text = &drafts[0].text;
    assert!(text.len() < 600 << 10, "{}", text.len());
    assert_eq!(
        text.matches("bytes cut …]").count(),
        text.matches("diff --git").count()
    );
    assert!(text.contains("+line 0\n") && text.contains("+line 5999"));
    assert!(
        text.contains("of 40 files cut …]\nM f") && text.ends_with("M f39.txt"),
        "{}",
        &text[text.len() - 300..]
    );
}

#[test]
fn what_is_not_gits_output_is_refused() {
    assert!(
        found("git", b"commit abc\nAuthor: x\n")
            .unwrap_err()
            .to_string()
            .contains("GIT_LOG_ARGUMENTS")
    );
    let good = commit('a', "", "Good", "", "");
    let report = format!(
        "{good}\0commit\0nothex\0\0n\0m\0d\0d\0s\0b\0\n\0commit\0cut off\n{}",
        commit('b', "", "Bad date", "", "").replace("2026-", "20260-")
    );
    let (drafts, refusals) = found("git", report.as_bytes()).unwrap();
    assert_eq!(drafts.len(), 1);
    let fields: Vec<&str> = refusals
        .iter()
        .map(|refusal| refusal.field.as_str())
        .collect();
    assert_eq!(fields, ["hash", "parents", "commit date"]);
    assert!(
        refusals[0].location.starts_with("commit 2 (byte "),
        "{refusals:?}"
    );
    let (drafts, refusals) = found("git", b"").unwrap();
    assert_eq!((drafts.len(), refusals.len()), (0, 0));
}

#[test]
fn ids_are_those_of_the_commits_whatever_was_printed() {
    let short = appended("git", "a", commit('a', "", "Fix", "", CHANGE).as_bytes());
    let long = appended("git", "b", commit('a', "", "Fix", "", "").as_bytes());
    assert_eq!(short[0].id, long[0].id);
    assert_ne!(short[0].text, long[0].text);
    assert_eq!(short[0].author, "Ada <[redacted:email]@example.org>");
}

/// Runs git in a folder with nothing of the user's settings.
fn git(folder: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (name, value) in [
        ("NAME", "Ada"),
        ("EMAIL", "ada@example.org"),
        ("DATE", "2026-11-20T10:00:00+00:00"),
    ] {
        command
            .env(format!("GIT_AUTHOR_{name}"), value)
            .env(format!("GIT_COMMITTER_{name}"), value);
    }
    let output = command.output().ok()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output.stdout)
}

#[test]
fn the_output_of_the_installed_git_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    if git(path, &["init", "-q", "-b", "main"]).is_none() {
        println!("SKIPPED: git is not installed");
        return;
    }
    std::fs::create_dir(path.join("sub")).unwrap();
    std::fs::write(path.join("sub/sp ace.rs"), "fn a() {}\nlatin \u{e4}\n").unwrap();
    std::fs::write(
        path.join("late.txt"),
        [b"text\n".repeat(4_000).as_slice(), b"\0commit\0x\n"].concat(),
    )
    .unwrap();
    std::fs::write(path.join("picture.bin"), b"\0\x01\x02").unwrap();
    git(path, &["add", "."]).unwrap();
    git(
        path,
        &[
            "commit",
            "-q",
            "-m",
            "First\n\nBody line.\n\ndiff --git a/no b/no\n",
        ],
    )
    .unwrap();
    git(path, &["mv", "sub/sp ace.rs", "sub/renamed.rs"]).unwrap();
    git(path, &["commit", "-q", "-m", "Rename"]).unwrap();
    git(path, &["checkout", "-q", "-b", "side", "HEAD~1"]).unwrap();
    git(path, &["commit", "-q", "--allow-empty", "-m", "Empty"]).unwrap();
    git(path, &["checkout", "-q", "main"]).unwrap();
    git(
        path,
        &["merge", "-q", "--no-ff", "-m", "Merge side", "side"],
    )
    .unwrap();
    // Settings of a user that would change what is printed.
    for (name, value) in [
        ("diff.noprefix", "true"),
        ("color.ui", "always"),
        ("diff.mnemonicPrefix", "true"),
        ("log.showSignature", "true"),
        ("diff.renames", "false"),
        ("log.date", "relative"),
    ] {
        git(path, &["config", name, value]).unwrap();
    }
    let report = git(path, GIT_LOG_ARGUMENTS).unwrap();
    let (drafts, refusals) = found("git", &report).unwrap();
    assert_eq!(refusals, []);
    let titles: Vec<&str> = drafts.iter().map(|draft| draft.title.as_str()).collect();
    assert_eq!((titles[0], titles[3]), ("First", "Merge side"));
    assert_eq!(titles.len(), 4);
    let first = &drafts[0];
    assert!(
        first
            .text
            .contains("Body line.\n\ndiff --git a/no b/no\n\ndiff --git a/late.txt b/late.txt"),
        "{}",
        first.text
    );
    assert!(
        first
            .text
            .contains("Binary files /dev/null and b/picture.bin differ"),
        "{}",
        first.text
    );
    assert!(first.text.contains("+latin ä"));
    let rename = drafts.iter().find(|draft| draft.title == "Rename").unwrap();
    let files: Vec<&str> = rename
        .links
        .iter()
        .filter(|link| link.relation == "file")
        .map(|link| link.target.as_str())
        .collect();
    assert_eq!(files, ["sub/renamed.rs", "sub/sp ace.rs"]);
    assert_eq!(drafts[3].links.len(), 2);
}
