//! JUnit XML, as many tools write it: one event per test case, one per suite and report.
//!
//! The XML is read as a stream of tags with an explicit stack, so that neither deep nesting nor a large
//! report costs more memory than its largest element. Nothing is expanded: a DOCTYPE is skipped and an entity
//! that XML itself does not define stays as it is written.

mod case;
mod element;
mod suite;

use commonplace_types::Timestamp;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::text::place_of;
use super::{Found, Refusal, ReportError, Sink, TextLimits, encoding, when};
use case::Case;
use element::{Attributes, Output, Problem, ProblemKind};
use suite::Suite;

/// Deepest nesting of elements.
const DEPTH: usize = 256;

/// An element that is open.
enum Frame {
    Suite(Box<Suite>),
    Case(Box<Case>),
    Problem(Box<Problem>),
    Output(Output),
    Trace(String),
    Property(String, String),
    /// Holds nothing of its own: `properties`, or an element we do not know.
    Other,
}

/// Reads a JUnit report. Errors: not XML, not a JUnit report, or nested too deep, with line and column.
pub(super) fn read(
    report: &[u8],
    limits: &TextLimits,
    sink: &mut Sink<'_>,
) -> Result<(), ReportError> {
    let text = encoding::decode(report)?;
    let mut reading = Reading {
        xml: Reader::from_str(&text),
        text: &text,
        limits,
        sink,
        open: Vec::new(),
        cases: 0,
        roots: 0,
    };
    reading.run()
}

struct Reading<'a, 'b, 's> {
    xml: Reader<&'a [u8]>,
    text: &'a str,
    limits: &'b TextLimits,
    sink: &'b mut Sink<'s>,
    open: Vec<Frame>,
    cases: u64,
    roots: u64,
}

impl<'a> Reading<'a, '_, '_> {
    fn run(&mut self) -> Result<(), ReportError> {
        loop {
            let start = self.xml.buffer_position() as usize;
            let event = match self.xml.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let offset = self.xml.error_position() as usize;
                    return Err(self.wrong(offset, error.to_string()));
                }
            };
            match event {
                Event::Start(tag) => self.start(&tag, start)?,
                Event::Empty(tag) => {
                    self.start(&tag, start)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::Text(text) => self.characters(&text.xml10_content(), start)?,
                Event::CData(text) => self.characters(&text.xml10_content(), start)?,
                Event::GeneralRef(name) => self.characters(&resolved(&name), start)?,
                Event::Eof => return self.finish(),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    fn wrong(&self, offset: usize, problem: impl Into<String>) -> ReportError {
        ReportError::at(place_of(self.text.as_bytes(), offset), problem)
    }

    fn start(&mut self, tag: &BytesStart<'_>, offset: usize) -> Result<(), ReportError> {
        if self.open.len() >= DEPTH {
            let problem = format!("elements are nested deeper than {DEPTH}");
            return Err(self.wrong(offset, problem));
        }
        let name = tag.local_name();
        let name = name.as_ref();
        if self.open.is_empty() {
            self.check_root(name, offset)?;
        }
        let frame = match name {
            "testsuites" | "testsuite" => {
                let attributes = self.attributes(tag, offset)?;
                let inside = self.open.iter().rev().find_map(as_suite);
                Frame::Suite(Box::new(Suite::open(
                    name == "testsuites",
                    attributes,
                    inside,
                )))
            }
            "testcase" => {
                self.cases += 1;
                let attributes = self.attributes(tag, offset)?;
                Frame::Case(Box::new(Case::open(attributes, self.cases, offset)))
            }
            "system-out" => Frame::Output(Output::standard()),
            "system-err" => Frame::Output(Output::error()),
            "stackTrace" => Frame::Trace(String::new()),
            "property" => {
                let attributes = self.attributes(tag, offset)?;
                Frame::Property(attributes.text("name"), attributes.text("value"))
            }
            name => match ProblemKind::named(name) {
                Some(kind) => {
                    let attributes = self.attributes(tag, offset)?;
                    Frame::Problem(Box::new(Problem::open(kind, &attributes)))
                }
                None => Frame::Other,
            },
        };
        self.open.push(frame);
        Ok(())
    }

    fn check_root(&mut self, name: &str, offset: usize) -> Result<(), ReportError> {
        self.roots += 1;
        if self.roots > 1 {
            let problem = format!("expected one outermost element, found a second, `{name}`");
            return Err(self.wrong(offset, problem));
        }
        if name == "testsuites" || name == "testsuite" {
            return Ok(());
        }
        let shown: String = name.escape_debug().take(60).collect();
        let problem = format!(
            "expected `testsuites` or `testsuite` as the outermost element, found `{shown}`"
        );
        Err(self.wrong(offset, problem))
    }

    fn attributes(&self, tag: &BytesStart<'_>, offset: usize) -> Result<Attributes, ReportError> {
        Attributes::read(tag).map_err(|problem| self.wrong(offset, problem))
    }

    /// Puts characters into the innermost element that keeps them.
    fn characters(&mut self, text: &str, offset: usize) -> Result<(), ReportError> {
        // Far more than is kept in the end; what lies between is cut when the element closes.
        let most = 4 * self.limits.trace_bytes.max(self.limits.output_bytes) + (64 << 10);
        let into = match self.open.last_mut() {
            Some(Frame::Problem(problem)) => &mut problem.text,
            Some(Frame::Output(output)) => &mut output.text,
            Some(Frame::Trace(trace)) => trace,
            Some(Frame::Property(_, value)) => value,
            Some(_) => return Ok(()),
            None if text.trim().is_empty() => return Ok(()),
            None => return Err(self.wrong(offset, "expected an XML element, found text")),
        };
        into.push_str(text);
        if into.len() > 2 * most {
            *into = super::cut_middle(into, most).into_owned();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ReportError> {
        match self.open.pop() {
            Some(Frame::Suite(suite)) => self.close_suite(*suite)?,
            Some(Frame::Case(case)) => self.close_case(*case)?,
            Some(Frame::Problem(problem)) => match self.owner() {
                Some(Frame::Case(case)) => case.problems.push(*problem),
                Some(Frame::Suite(suite)) => suite.problems.push(*problem),
                _ => {}
            },
            Some(Frame::Output(output)) => match self.owner() {
                Some(Frame::Case(case)) => case.outputs.add(output),
                Some(Frame::Suite(suite)) => suite.outputs.add(output),
                Some(Frame::Problem(problem)) => problem.outputs.add(output),
                _ => {}
            },
            Some(Frame::Trace(trace)) => {
                if let Some(Frame::Problem(problem)) = self.owner() {
                    problem.text.push_str(&trace);
                }
            }
            Some(Frame::Property(name, value)) => match self.owner() {
                Some(Frame::Case(case)) => case.properties.push((name, value)),
                Some(Frame::Suite(suite)) => suite.properties.push((name, value)),
                _ => {}
            },
            Some(Frame::Other) | None => {}
        }
        Ok(())
    }

    /// The innermost open element that holds something.
    fn owner(&mut self) -> Option<&mut Frame> {
        self.open
            .iter_mut()
            .rev()
            .find(|frame| !matches!(frame, Frame::Other))
    }

    fn close_case(&mut self, case: Case) -> Result<(), ReportError> {
        let (text, offset) = (self.text.as_bytes(), case.offset);
        let suite = self.open.iter_mut().rev().find_map(as_suite_mut);
        let Some(suite) = suite else {
            return Ok(());
        };
        let found = match case.into_draft(suite, self.limits) {
            Ok((draft, verdict)) => {
                suite.count(verdict, &draft.title);
                Found::Draft(Box::new(draft))
            }
            Err((number, invalid)) => Found::Refused(Refusal {
                location: format!("testcase {number} (line {})", place_of(text, offset).line),
                field: invalid.field,
                reason: invalid.problem,
            }),
        };
        Ok((self.sink)(found)?)
    }

    fn close_suite(&mut self, suite: Suite) -> Result<(), ReportError> {
        let draft = suite.to_draft(self.limits);
        if let Some(parent) = self.open.iter_mut().rev().find_map(as_suite_mut) {
            parent.include(&suite);
        }
        match draft {
            Some(draft) => Ok((self.sink)(Found::Draft(Box::new(draft)))?),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        if !self.open.is_empty() {
            let problem = format!("the report ends inside {} open elements", self.open.len());
            return Err(self.wrong(self.text.len(), problem));
        }
        if self.roots == 0 {
            return Err(ReportError::whole(
                "expected a `testsuites` or `testsuite` element, found none; is the report empty?",
            ));
        }
        Ok(())
    }
}

fn as_suite(frame: &Frame) -> Option<&Suite> {
    match frame {
        Frame::Suite(suite) => Some(suite),
        _ => None,
    }
}

fn as_suite_mut(frame: &mut Frame) -> Option<&mut Suite> {
    match frame {
        Frame::Suite(suite) => Some(suite),
        _ => None,
    }
}

/// The character behind `&name;`. What XML does not define stays as written, never expanded.
fn resolved(name: &BytesRef<'_>) -> String {
    if let Some(character) = element::predefined(name) {
        return character.to_owned();
    }
    match name.resolve_char_ref() {
        Ok(Some(character)) => character.to_string(),
        Ok(None) => format!("&{};", &**name),
        Err(_) => char::REPLACEMENT_CHARACTER.to_string(),
    }
}

/// The first of several written moments that can be read.
fn first_moment<'a>(written: impl IntoIterator<Item = &'a str>) -> Option<Timestamp> {
    written.into_iter().find_map(when::moment)
}

#[cfg(test)]
mod tests;
