//! Progress of a task of more than a second: a live bar on a terminal, a line now and then elsewhere.

use std::fmt::{Display, Write};
use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::meter::{Meter, short_time};
use super::{BARS, note};

/// Plain lines come at most this often: seldom enough for a log file, often enough to be trusted.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A live bar is drawn at most this often.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// The progress of one counted task, on stderr. Dropping it takes a live bar away.
#[derive(Debug)]
pub struct Progress {
    task: String,
    meter: Meter,
    started: Instant,
    /// What the caller has to say besides count and rate: loss, memory. Below a live bar, in lines of its own.
    said: String,
    view: View,
}

#[derive(Debug)]
enum View {
    Bar { bar: ProgressBar, below: Below, drawn: Option<Instant> },
    Lines { last: Instant },
}

impl Progress {
    /// Starts a task: `Progress::start("epoch 1 of 10", "images", 800)`.
    #[must_use]
    pub fn start(task: impl Into<String>, unit: &'static str, total: u64) -> Self {
        let (task, started) = (task.into(), Instant::now());
        let view = match stderr().is_terminal() {
            true => View::Bar { bar: new_bar(&task, total), below: Below::default(), drawn: None },
            false => View::Lines { last: started },
        };
        Self { task, meter: Meter::new(unit, total), started, said: String::new(), view }
    }

    /// Says something besides count and rate, from now on: `loss 0.41, memory 512 MiB`. In at most two lines, which a narrow terminal has room for.
    pub fn say(&mut self, details: impl Display) {
        self.said = details.to_string();
    }

    /// So many more units are done.
    pub fn advance(&mut self, count: u64) {
        self.set(self.meter.done() + count);
    }

    /// So many units are done in all.
    pub fn set(&mut self, done: u64) {
        let now = Instant::now();
        self.meter.record(done, now - self.started);
        match &mut self.view {
            View::Bar { bar, below, drawn } => {
                if drawn.is_none_or(|drawn| now - drawn >= DRAW_INTERVAL) {
                    below.show(bar, &self.said);
                    bar.set_position(self.meter.done());
                    bar.set_message(self.meter.details(""));
                    *drawn = Some(now);
                }
            }
            View::Lines { last } => {
                let is_last = self.meter.done() == self.meter.total();
                if now - *last >= LINE_INTERVAL && !is_last {
                    note(plain_line(&self.task, &self.meter, &self.said));
                    *last = now;
                }
            }
        }
    }

    /// Ends the task with a line that stays: `epoch 1 of 10: loss 0.41, ... in 12 s`.
    pub fn finish(self, summary: impl Display) {
        let seconds = self.started.elapsed().as_secs_f64();
        let line = format!("{}: {summary} in {}", self.task, short_time(seconds));
        drop(self);
        note(line);
    }

    /// Time since the start of the task.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let View::Bar { bar, .. } = &self.view {
            bar.finish_and_clear();
            BARS.remove(bar);
        }
    }
}

/// `epoch 1 of 10: 400 of 800 images, 210 images/s, 2 s left, loss 0.41`.
fn plain_line(task: &str, meter: &Meter, said: &str) -> String {
    let parts = [meter.count(), meter.details(&said.replace('\n', ", "))];
    let known: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    format!("{task}: {}", known.join(", "))
}

/// The lines below a live bar.
#[derive(Debug, Clone, Default)]
struct Below {
    lines: Arc<Mutex<Vec<String>>>,
    count: usize,
}

impl Below {
    const KEYS: [&str; 2] = ["first_below", "second_below"];

    fn show(&mut self, bar: &ProgressBar, said: &str) {
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let count = lines.len().min(Self::KEYS.len());
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = lines;
        if count != self.count {
            self.count = count;
            bar.set_style(self.style());
        }
    }

    /// Of a bar with so many lines below.
    fn style(&self) -> ProgressStyle {
        let keys = &Self::KEYS[..self.count];
        let below: String = keys.iter().map(|key| format!("\n  {{{key}}}")).collect();
        let style = ProgressStyle::with_template(&format!(
            "{{prefix}} {{bar:12.cyan/dim}} {{pos}}/{{len}} {{wide_msg}}{below}"
        ));
        let style = style.expect("the template is made of constants, and a test parses it").progress_chars("━╸─");
        keys.iter().enumerate().fold(style, |style, (line, key)| {
            let lines = self.lines.clone();
            style.with_key(key, move |_: &ProgressState, out: &mut dyn Write| {
                let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                // A bar that cannot be drawn tells nobody.
                let _ = out.write_str(lines.get(line).map_or("", String::as_str));
            })
        })
    }
}

fn new_bar(task: &str, total: u64) -> ProgressBar {
    let style = Below::default().style();
    let bar = BARS.add(ProgressBar::new(total).with_style(style).with_prefix(task.to_owned()));
    // A slow step must not look like a hanging program.
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_templates_parse_with_any_number_of_lines_below() {
        let bar = new_bar("epoch 1 of 10", 800);
        assert_eq!(bar.length(), Some(800));
        let mut below = Below::default();
        for (said, count) in [("", 0), ("loss 0.4", 1), ("loss 0.4\nmemory 3 MiB", 2), ("loss 0.3", 1)] {
            below.show(&bar, said);
            assert_eq!(below.count, count);
            assert_eq!(below.lines.lock().unwrap().join("\n"), said);
        }
    }

    #[test]
    fn a_plain_line_tells_task_count_rate_and_details() {
        let mut meter = Meter::new("images", 800);
        meter.record(400, Duration::from_secs(2));
        assert_eq!(
            plain_line("epoch 1 of 10", &meter, "loss 0.41"),
            "epoch 1 of 10: 400 of 800 images, 200 images/s, 2.0 s left, loss 0.41"
        );
        let line = plain_line("epoch 1 of 10", &meter, "loss 0.41\nmemory 3 MiB");
        assert!(line.ends_with("2.0 s left, loss 0.41, memory 3 MiB"), "{line}");
    }

    #[test]
    fn a_task_may_have_nothing_to_do() {
        let mut progress = Progress::start("nothing", "images", 0);
        progress.advance(0);
        progress.finish("done");
    }
}
