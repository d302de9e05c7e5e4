//! Tables and colours for people.

mod jsonpath;
mod style;
mod table;

pub(crate) use jsonpath::{Query, Template, WrongTemplate};
pub(crate) use style::Style;
pub(crate) use table::table;
