//! How a section of settings is declared: once, with text, type, default and bounds together, so that
//! the check, the documentation and the example file can't disagree.

use serde_json::Value;

/// One setting of a configuration as it stands.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its name within the section.
    pub name: &'static str,
    /// What it does, line by line, as in its documentation.
    pub doc: &'static [&'static str],
    /// Its value; null where it isn't set.
    pub value: Value,
    /// Lowest and highest value allowed, of a number.
    pub bounds: Option<(u64, u64)>,
}

impl Setting {
    /// Whether the value lies in the bounds.
    pub fn is_in_bounds(&self) -> bool {
        match (self.bounds, self.value.as_u64()) {
            (Some((low, high)), Some(value)) => (low..=high).contains(&value),
            _ => true,
        }
    }
}

/// A section of the configuration.
pub trait Section {
    /// What the section is about, line by line.
    fn doc(&self) -> &'static [&'static str];
    /// Its settings, in the order of their declaration.
    fn settings(&self) -> Vec<Setting>;
}

/// Declares a section: a struct with defaults that deserialises strictly and knows its own texts
/// and bounds.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $section:ident {
            $(
                $(#[doc = $doc:literal])*
                $name:ident : $type:ty = $default:expr $(, in $low:literal ..= $high:literal)?;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $section {
            $(
                $(#[doc = $doc])*
                $(
                    ///
                    #[doc = concat!("Allowed: ", stringify!($low), " to ", stringify!($high), ".")]
                )?
                pub $name: $type,
            )*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl $crate::config::section::Section for $section {
            fn doc(&self) -> &'static [&'static str] {
                &[$($section_doc),*]
            }

            fn settings(&self) -> Vec<$crate::config::section::Setting> {
                vec![$(
                    $crate::config::section::Setting {
                        name: stringify!($name),
                        doc: &[$($doc),*],
                        value: ::serde_json::to_value(&self.$name).unwrap_or_default(),
                        bounds: $crate::config::section::section!(@bounds $($low, $high)?),
                    },
                )*]
            }
        }
    };
    (@bounds $low:literal, $high:literal) => { Some(($low, $high)) };
    (@bounds) => { None };
}

pub(crate) use section;
