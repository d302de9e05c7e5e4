//! Tables and colours for people.

mod style;
mod table;

pub(crate) use style::Style;
pub(crate) use table::table;
