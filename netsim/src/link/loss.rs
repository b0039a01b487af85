//! Which packets chance takes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

use super::{
    chance::{Draw, Share},
    settings::{LinkError, share},
};

/// How packets are lost. In TOML: a number (`loss = 0.02`), or a table with the fields of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Never. In TOML: `loss = {}`, or nothing.
    #[default]
    None,
    /// Each packet by itself: `loss = { probability = 0.02 }`.
    Independent {
        /// The share that is lost, 0 to 1.
        probability: f64,
    },
    /// In bursts, after Gilbert and Elliott: `loss = { p = 0.01, r = 0.25, h = 0, k = 1 }`. The link is good or
    /// bad, good at first, and may turn before each packet. With `h` = 0 and `k` = 1 (Gilbert's model, and what
    /// TOML may leave out) the loss is p / (p + r) and the mean burst 1 / r packets.
    GilbertElliott {
        /// The chance to turn from good to bad, 0 to 1.
        p: f64,
        /// The chance to turn from bad to good, 0 to 1.
        r: f64,
        /// The share that gets through while bad, 0 to 1.
        h: f64,
        /// The share that gets through while good, 0 to 1.
        k: f64,
    },
    /// Each packet by itself, but never more than so many in a row, as quic-interop-runner does it:
    /// `loss = { probability = 0.3, at_most = 3 }`. The packet after a full burst always gets through, so somewhat
    /// less than `probability` is lost.
    Bursts {
        /// The chance of each packet that may be lost, 0 to 1.
        probability: f64,
        /// The longest burst in packets, at least 1.
        at_most: u32,
    },
}

impl Loss {
    /// All packets are lost.
    pub const ALL: Self = Self::Independent { probability: 1.0 };

    /// Whether it is [`Loss::None`].
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    pub(super) fn plan(&self) -> Result<LossPlan, LinkError> {
        Ok(match *self {
            Self::None => LossPlan::Independent(share("loss.probability", 0.0)?),
            Self::Independent { probability } => {
                LossPlan::Independent(share("loss.probability", probability)?)
            }
            Self::GilbertElliott { p, r, h, k } => LossPlan::GilbertElliott {
                worsens: share("loss.p", p)?,
                heals: share("loss.r", r)?,
                passes_bad: share("loss.h", h)?,
                passes_good: share("loss.k", k)?,
            },
            Self::Bursts { at_most: 0, .. } => {
                return Err(LinkError::OutOfRange {
                    field: "loss.at_most",
                    value: 0.0,
                    allowed: "1 or more packets",
                });
            }
            Self::Bursts { probability, at_most } => {
                LossPlan::Bursts { chance: share("loss.probability", probability)?, at_most }
            }
        })
    }
}

/// A loss whose numbers were checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LossPlan {
    Independent(Share),
    GilbertElliott { worsens: Share, heals: Share, passes_bad: Share, passes_good: Share },
    Bursts { chance: Share, at_most: u32 },
}

/// What loss must remember from packet to packet.
#[derive(Debug, Default)]
pub(super) struct Losses {
    bad: bool,
    in_a_row: u32,
}

impl Losses {
    /// Whether the next packet is lost.
    pub(super) fn takes(&mut self, plan: &LossPlan, turn: Draw, loss: Draw) -> bool {
        let lost = match plan {
            LossPlan::Independent(chance) => chance.hit(loss),
            LossPlan::GilbertElliott { worsens, heals, passes_bad, passes_good } => {
                let turns = if self.bad { heals } else { worsens };
                self.bad ^= turns.hit(turn);
                !(if self.bad { passes_bad } else { passes_good }).hit(loss)
            }
            LossPlan::Bursts { chance, at_most } => self.in_a_row < *at_most && chance.hit(loss),
        };
        self.in_a_row = if lost { self.in_a_row.saturating_add(1) } else { 0 };
        lost
    }
}

impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::None => {}
            Self::Independent { probability } => map.serialize_entry("probability", probability)?,
            Self::GilbertElliott { p, r, h, k } => {
                for (name, value) in [("p", p), ("r", r), ("h", h), ("k", k)] {
                    map.serialize_entry(name, value)?;
                }
            }
            Self::Bursts { probability, at_most } => {
                map.serialize_entry("probability", probability)?;
                map.serialize_entry("at_most", at_most)?;
            }
        }
        map.end()
    }
}

/// The fields of every kind; which are there says which kind it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    probability: Option<f64>,
    at_most: Option<u32>,
    p: Option<f64>,
    r: Option<f64>,
    h: Option<f64>,
    k: Option<f64>,
}

impl Fields {
    fn loss(self) -> Result<Loss, &'static str> {
        let Self { probability, at_most, p, r, h, k } = self;
        match (probability, at_most, p, r) {
            (None, None, None, None) if h.is_none() && k.is_none() => Ok(Loss::None),
            (Some(probability), None, None, None) if h.is_none() && k.is_none() => {
                Ok(Loss::Independent { probability })
            }
            (Some(probability), Some(at_most), None, None) if h.is_none() && k.is_none() => {
                Ok(Loss::Bursts { probability, at_most })
            }
            (None, None, Some(p), Some(r)) => {
                Ok(Loss::GilbertElliott { p, r, h: h.unwrap_or(0.0), k: k.unwrap_or(1.0) })
            }
            _ => Err(
                "a loss is { probability }, { probability, at_most }, or { p, r } with h and k \
                      if need be",
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LossVisitor)
    }
}

struct LossVisitor;

impl<'de> de::Visitor<'de> for LossVisitor {
    type Value = Loss;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share of packets, or a table that describes a loss")
    }

    fn visit_f64<E: de::Error>(self, probability: f64) -> Result<Loss, E> {
        Ok(Loss::Independent { probability })
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Loss, E> {
        match whole {
            0 => Ok(Loss::None),
            1 => Ok(Loss::ALL),
            _ => Err(E::invalid_value(de::Unexpected::Signed(whole), &"a share from 0 to 1")),
        }
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Loss, E> {
        self.visit_i64(i64::try_from(whole).unwrap_or(i64::MAX))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Loss, A::Error> {
        let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        fields.loss().map_err(de::Error::custom)
    }
}
