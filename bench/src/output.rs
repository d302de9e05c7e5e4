//! How figures leave the program: as a table, as JSON, as a drawing, all of the same data.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

use crate::plot::{self, Chart};

/// What one run measured.
pub(crate) trait Figures: fmt::Display {
    /// For a script.
    fn json(&self) -> Value;
    /// For the drawing.
    fn charts(&self) -> Vec<Chart>;
}

/// What the user wants of the figures.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// How the figures are printed.
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
    /// Draw the medians into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Output {
    /// Draws and prints.
    ///
    /// # Errors
    /// The drawing cannot be written.
    pub(crate) fn publish(&self, figures: &impl Figures) -> Result<()> {
        if let Some(file) = &self.svg {
            plot::draw(&figures.charts(), file)?;
        }
        let text = match self.output.as_str() {
            "json" => serde_json::to_string_pretty(&figures.json())?,
            _ => figures.to_string(),
        };
        #[expect(clippy::print_stdout, reason = "the figures are the program's output")]
        {
            println!("{text}");
        }
        Ok(())
    }
}
