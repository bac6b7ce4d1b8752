//! Values of a document as the types of the wire form; an error where they are none.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::errors::{Errors, Step};
use super::json::Json;
use crate::rate::Rate;
use crate::table::Table;

/// A value that is yet to be read. Where it stands is known to [`Errors`].
pub(super) struct At<'t>(pub(super) Json<'t>);

impl<'t> At<'t> {
    #[inline(never)]
    fn wrong<T>(form: &str, errors: &mut Errors) -> Option<T> {
        errors.here(["write ", form].concat());
        None
    }

    #[inline(never)]
    fn text(self, errors: &mut Errors) -> Option<Cow<'t, str>> {
        match self.0 {
            Json::Text(text) => Some(text),
            _ => Self::wrong("a text in quotes", errors),
        }
    }

    pub(super) fn string(self, errors: &mut Errors) -> Option<String> {
        self.text(errors).map(Cow::into_owned)
    }

    #[inline(never)]
    pub(super) fn number(self, least: u64, most: u64, errors: &mut Errors) -> Option<u64> {
        match self.0 {
            Json::Number(number) if (least..=most).contains(&number) => Some(number),
            _ => Self::wrong(&format!("a whole number from {least} to {most}"), errors),
        }
    }

    #[inline(never)]
    pub(super) fn count(self, errors: &mut Errors) -> Option<NonZeroU32> {
        let number = self.number(1, u64::from(u32::MAX), errors)?;
        u32::try_from(number).ok().and_then(NonZeroU32::new)
    }

    #[inline(never)]
    pub(super) fn rate(self, errors: &mut Errors) -> Option<Rate> {
        Rate::parse(&self.text(errors)?)
            .map_err(|message| errors.here(message))
            .ok()
    }

    #[inline(never)]
    pub(super) fn one_of<T: Copy>(self, names: &[(&str, T)], errors: &mut Errors) -> Option<T> {
        if let Json::Text(text) = &self.0
            && let Some((_, value)) = names.iter().find(|(name, _)| *name == text)
        {
            return Some(*value);
        }
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        Self::wrong(&["one of ", &names.join(", ")].concat(), errors)
    }

    #[inline(never)]
    pub(super) fn list<T>(
        self,
        errors: &mut Errors,
        read: impl Fn(Self, &mut Errors) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Json::List(items) = self.0 else {
            return Self::wrong("a list", errors);
        };
        let mut list = Vec::with_capacity(items.len());
        for (i, value) in items.into_iter().enumerate() {
            match errors.at(Step::Item(i), |errors| read(At(value), errors)) {
                Some(item) => list.push(item),
                None => errors.gaps = true,
            }
        }
        Some(list)
    }

    #[inline(never)]
    pub(super) fn table<T>(
        self,
        errors: &mut Errors,
        read: impl Fn(Self, &mut Errors) -> Option<T>,
    ) -> Option<Table<T>> {
        let Json::Object(rows) = self.0 else {
            return Self::wrong("a table", errors);
        };
        let mut table = Table::default();
        for (key, value) in rows {
            let key = key.into_owned();
            errors.at(Step::Row(key.clone()), |errors| {
                if let Some(row) = read(At(value), errors)
                    && table.insert(key, row).is_some()
                {
                    errors.here(TWICE);
                }
            });
        }
        Some(table)
    }

    /// Reads an object by its fields; what `read` leaves is unknown.
    pub(super) fn object<T>(
        self,
        errors: &mut Errors,
        read: impl Fn(&mut Fields<'_, 't>) -> T,
    ) -> Option<T> {
        let mut fields = self.open(errors)?;
        let value = read(&mut fields);
        fields.close();
        Some(value)
    }

    #[inline(never)]
    fn open<'e>(self, errors: &'e mut Errors) -> Option<Fields<'e, 't>> {
        match self.0 {
            Json::Object(left) => Some(Fields {
                left,
                asked: Vec::with_capacity(16),
                errors,
            }),
            _ => Self::wrong("an object", errors),
        }
    }
}

const TWICE: &str = "is there twice: leave one out";

/// The fields of an object that are yet to be read.
pub(super) struct Fields<'e, 't> {
    left: Vec<(Cow<'t, str>, Json<'t>)>,
    asked: Vec<&'static str>,
    errors: &'e mut Errors,
}

impl<'t> Fields<'_, 't> {
    /// A field that may be left out.
    #[inline(never)]
    pub(super) fn maybe<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(At<'t>, &mut Errors) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.errors
            .at(Step::Field(name), |errors| read(value, errors))
    }

    /// A field that may be left out for its type's default.
    pub(super) fn or_default<T: Default>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(At<'t>, &mut Errors) -> Option<T>,
    ) -> T {
        self.maybe(name, read).unwrap_or_default()
    }

    /// A field that must be there.
    #[inline(never)]
    pub(super) fn must<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(At<'t>, &mut Errors) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name);
        self.errors.at(Step::Field(name), |errors| {
            let Some(value) = value else {
                errors.here("is missing");
                return None;
            };
            read(value, errors)
        })
    }

    // Not inlined, as `close`: there are some forty fields.
    #[inline(never)]
    fn take(&mut self, name: &'static str) -> Option<At<'t>> {
        self.asked.push(name);
        let at = self.left.iter().position(|(key, _)| key == name)?;
        Some(At(self.left.remove(at).1))
    }

    #[inline(never)]
    fn close(self) {
        for (key, _) in self.left {
            let message = if self.asked.contains(&&*key) {
                String::from(TWICE)
            } else {
                ["unknown field: write one of ", &self.asked.join(", ")].concat()
            };
            self.errors
                .at(Step::Row(key.into_owned()), |errors| errors.here(message));
        }
    }
}
