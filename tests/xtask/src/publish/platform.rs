//! The platforms that packages are published for, and their names in each registry.

use clap::ValueEnum;

/// A platform with a native library in the packages, named as in npm's packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    /// Linux on x86-64 with glibc 2.17 or later.
    LinuxX64Gnu,
    /// Linux on 64-bit ARM with glibc 2.17 or later.
    LinuxArm64Gnu,
    /// Linux on x86-64 with musl 1.2, such as Alpine.
    LinuxX64Musl,
    /// macOS on Intel.
    DarwinX64,
    /// macOS on Apple silicon.
    DarwinArm64,
}

/// The oldest glibc of the Linux packages, as zig's linker takes it: that of manylinux2014.
pub(super) const GLIBC: &str = "2.17";

impl Platform {
    /// The platforms that this system can build: those of Linux are cross-compiled, the others need their own system.
    pub(crate) fn buildable() -> Vec<Self> {
        let system = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        let all = Self::value_variants().iter().copied();
        all.filter(|platform| platform.key().starts_with(system)).collect()
    }

    /// The platform of this machine, if packages are published for it.
    pub(crate) fn here() -> Option<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") if cfg!(target_env = "musl") => Some(Self::LinuxX64Musl),
            ("linux", "x86_64") => Some(Self::LinuxX64Gnu),
            ("linux", "aarch64") if cfg!(target_env = "gnu") => Some(Self::LinuxArm64Gnu),
            ("macos", "x86_64") => Some(Self::DarwinX64),
            ("macos", "aarch64") => Some(Self::DarwinArm64),
            _ => None,
        }
    }

    /// npm's name, which is also that on the command line.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::LinuxX64Gnu => "linux-x64-gnu",
            Self::LinuxArm64Gnu => "linux-arm64-gnu",
            Self::LinuxX64Musl => "linux-x64-musl",
            Self::DarwinX64 => "darwin-x64",
            Self::DarwinArm64 => "darwin-arm64",
        }
    }

    /// Rust's name.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::LinuxX64Gnu => "x86_64-unknown-linux-gnu",
            Self::LinuxArm64Gnu => "aarch64-unknown-linux-gnu",
            Self::LinuxX64Musl => "x86_64-unknown-linux-musl",
            Self::DarwinX64 => "x86_64-apple-darwin",
            Self::DarwinArm64 => "aarch64-apple-darwin",
        }
    }

    /// The tags of a wheel. The versions of macOS are the oldest that Rust's standard library supports.
    pub(super) fn wheel(self) -> &'static str {
        match self {
            Self::LinuxX64Gnu => "manylinux_2_17_x86_64.manylinux2014_x86_64",
            Self::LinuxArm64Gnu => "manylinux_2_17_aarch64.manylinux2014_aarch64",
            Self::LinuxX64Musl => "musllinux_1_2_x86_64",
            Self::DarwinX64 => "macosx_10_12_x86_64",
            Self::DarwinArm64 => "macosx_11_0_arm64",
        }
    }

    /// The folder in a jar where JNA looks for the library.
    pub(crate) fn jna(self) -> &'static str {
        match self {
            Self::LinuxX64Gnu | Self::LinuxX64Musl => "linux-x86-64",
            Self::LinuxArm64Gnu => "linux-aarch64",
            Self::DarwinX64 => "darwin-x86-64",
            Self::DarwinArm64 => "darwin-aarch64",
        }
    }

    pub(super) fn is_linux(self) -> bool {
        self.key().starts_with("linux")
    }

    /// Whether the library needs glibc, so that it must not need a later one than [`GLIBC`].
    pub(super) fn is_glibc(self) -> bool {
        self.key().ends_with("-gnu")
    }

    /// The file of a shared library, by the name of its crate.
    pub(super) fn file(self, library: &str) -> String {
        match self {
            Self::DarwinX64 | Self::DarwinArm64 => format!("lib{library}.dylib"),
            _ => format!("lib{library}.so"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_and_npm_use_one_name() {
        for platform in Platform::value_variants() {
            let value = platform.to_possible_value().unwrap();
            assert_eq!(value.get_name(), platform.key());
        }
    }

    #[test]
    fn wheels_name_the_oldest_glibc() {
        for platform in Platform::value_variants().iter().filter(|platform| platform.is_glibc()) {
            assert!(platform.wheel().contains(&GLIBC.replace('.', "_")), "{}", platform.wheel());
        }
    }
}
