//! What a text is, as far as cutting it is concerned.

/// The way a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Paragraphs and sentences.
    Prose,
    /// Program text.
    Code,
    /// A unified diff.
    Diff,
    /// Output of a build or a test run.
    Log,
}

impl Kind {
    /// The artifact type decides for diffs and logs; else the text does.
    pub fn of(artifact_type: &str, text: &str) -> Self {
        match artifact_type {
            "diff" => Self::Diff,
            "runlog" | "log" | "flake" => Self::Log,
            _ => Self::sniffed(text),
        }
    }

    /// Judges the first lines only, so that it costs the same for any text.
    fn sniffed(text: &str) -> Self {
        let mut lines = 0;
        let (mut code, mut log) = (0, 0);
        for line in text.lines().filter(|line| !line.trim().is_empty()).take(60) {
            if line.starts_with("diff --git ") || line.starts_with("@@ -") {
                return Self::Diff;
            }
            lines += 1;
            code += u32::from(looks_like_code(line));
            log += u32::from(looks_like_log(line));
        }
        if lines >= 3 && log * 2 > lines {
            Self::Log
        } else if lines >= 3 && code * 3 > lines {
            Self::Code
        } else {
            Self::Prose
        }
    }
}

fn looks_like_code(line: &str) -> bool {
    let trimmed = line.trim();
    trimmed.ends_with(['{', '}', ';', ':', ')', ','])
        || (line.starts_with([' ', '\t']) && trimmed.contains(['=', '(']))
        || [
            "def ", "fn ", "func ", "class ", "import ", "#include", "//", "#!",
        ]
        .iter()
        .any(|opening| trimmed.starts_with(opening))
}

fn looks_like_log(line: &str) -> bool {
    let stamped = line
        .as_bytes()
        .iter()
        .take(24)
        .filter(|byte| byte.is_ascii_digit())
        .count()
        >= 8;
    let marked = ["INFO", "WARN", "ERROR", "DEBUG", "[info]", "[error]"]
        .iter()
        .any(|mark| line.contains(mark));
    stamped || marked || line.trim_start().starts_with("at ")
}
