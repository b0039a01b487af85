//! The scenarios that come with the program.

/// A scenario that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundled {
    /// Its name: the file's in `netsim/scenarios`, without the ending.
    pub name: &'static str,
    /// The file's text.
    pub toml: &'static str,
}

macro_rules! bundle {
    ($($name:literal),* $(,)?) => {
        /// All of them: everyday ones, then those after the cases of quic-interop-runner.
        pub const BUNDLED: &[Bundled] = &[$(Bundled {
            name: $name,
            toml: include_str!(concat!("../../scenarios/", $name, ".toml")),
        }),*];
    };
}

bundle![
    "lossy",
    "subway",
    "lift",
    "motorway",
    "stadium",
    "aeroplane",
    "pocket",
    "two-g",
    "long-round-trip",
    "interop-black-hole",
    "interop-handshake-loss",
    "interop-transfer-loss",
    "interop-rebind-port",
    "interop-rebind-address",
];

/// The scenario of that name.
pub fn bundled(name: &str) -> Option<Bundled> {
    BUNDLED.iter().find(|bundled| bundled.name == name).copied()
}
