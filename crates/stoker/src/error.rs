//! The one error that a command ends with, and how it is shown.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::config::ConfigError;

/// Whose fault it was, as the exit code tells it to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request was fine and the work failed: exit code 1.
    Failed,
    /// The request was wrong, and asking again will not help: exit code 2.
    WrongRequest,
    /// The user stopped it: exit code 130, as shells have it for Ctrl-C.
    Interrupted,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Failed => 1.into(),
            Outcome::WrongRequest => 2.into(),
            Outcome::Interrupted => 130.into(),
        }
    }
}

/// What went wrong, why, and the way out.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandError {
    /// What failed, with which value, against what: lower case, no full stop.
    pub message: String,
    /// From the nearest cause to the first.
    pub causes: Vec<String>,
    /// What to do about it; can be pasted.
    pub hint: Option<String>,
    /// Decides the exit code.
    pub outcome: Outcome,
}

impl CommandError {
    /// A wrong request (exit code 2) in a sentence of its own.
    pub fn wrong_request(message: impl Into<String>) -> Self {
        Self::new(Outcome::WrongRequest, message.into())
    }

    /// Work that failed (exit code 1) in a sentence of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, message.into())
    }

    /// Work that the user stopped (exit code 130).
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Outcome::Interrupted, message.into())
    }

    /// A wrong request, from a library's error and its sources.
    pub fn from_request(error: &dyn Error) -> Self {
        Self::wrong_request(error.to_string()).with_causes(sources(error))
    }

    /// Work that failed, from a library's error and its sources.
    pub fn from_run(error: &dyn Error) -> Self {
        Self::failed(error.to_string()).with_causes(sources(error))
    }

    /// Puts what was being done before what went wrong, which becomes the first cause.
    #[must_use]
    pub fn in_context(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, cause);
        self
    }

    /// Adds causes below those that are known.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<String>) -> Self {
        self.causes.extend(causes);
        self
    }

    /// Sets the hint; `None` leaves it as it is.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }

    /// Shows the error on stderr, in colour on a terminal unless `NO_COLOR` is set.
    pub fn report(&self) {
        use std::io::Write as _;
        let mut stderr = anstream::stderr().lock();
        // Nobody is left to tell when stderr is closed.
        let _ = write!(stderr, "{self}");
    }

    fn new(outcome: Outcome, message: String) -> Self {
        Self { message, causes: Vec::new(), hint: None, outcome }
    }
}

/// Styled, line end included; [`CommandError::report`] takes the styles out where they do not belong.
impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (error, cause, hint) =
            (AnsiColor::Red.on_default().bold(), Style::new().dimmed(), AnsiColor::Cyan.on_default().bold());
        writeln!(formatter, "{error}error:{error:#} {}", self.message)?;
        for text in &self.causes {
            writeln!(formatter, "  {cause}caused by:{cause:#} {text}")?;
        }
        match &self.hint {
            Some(text) => writeln!(formatter, "\n{hint}hint:{hint:#} {text}"),
            None => Ok(()),
        }
    }
}

impl Error for CommandError {}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::from_request(&error).with_causes(error.details()).with_hint(error.hint())
    }
}

/// The chain below an error. Some libraries repeat the source in their own text; that is said once.
fn sources(error: &dyn Error) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !said.contains(&text) {
            causes.push(text.clone());
        }
        said = text;
        next = source.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(error: &CommandError) -> String {
        anstream::adapter::strip_str(&error.to_string()).to_string()
    }

    #[test]
    fn an_error_reads_message_causes_hint() {
        let error = CommandError::failed("batch size 256 needs 21.4 GiB, but `cuda:0` has 15.7 GiB free")
            .with_causes(vec!["activations 17.9 GiB, optimizer 2.1 GiB".to_owned()])
            .with_hint("set `train.micro_batch_size: 160`".to_owned());
        assert_eq!(
            plain(&error),
            "error: batch size 256 needs 21.4 GiB, but `cuda:0` has 15.7 GiB free\n  \
             caused by: activations 17.9 GiB, optimizer 2.1 GiB\n\n\
             hint: set `train.micro_batch_size: 160`\n"
        );
    }

    #[test]
    fn without_causes_and_hint_an_error_is_one_line() {
        assert_eq!(plain(&CommandError::interrupted("stopped")), "error: stopped\n");
    }

    #[test]
    fn context_becomes_the_message_and_the_error_its_first_cause() {
        let error = CommandError::failed("disk full").in_context("cannot save `last`");
        assert_eq!(plain(&error), "error: cannot save `last`\n  caused by: disk full\n");
    }

    #[test]
    fn sources_become_causes_and_are_not_said_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Layer(&'static str, #[source] Option<Box<Layer>>);
        let disk = Layer("no space left", None);
        let save = Layer("write failed: no space left", Some(Box::new(disk)));
        let error = CommandError::from_run(&Layer("cannot save", Some(Box::new(save))));
        assert_eq!(error.causes, ["write failed: no space left"]);
    }
}
