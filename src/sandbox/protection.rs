//! What stands between a program and the machine, and how to say it in one line.

use std::fmt;

/// One protection that can be switched off, by tests or where it does harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Namespaces,
    /// A user namespace. Without it only root can have the other namespaces.
    UserNamespace,
    Landlock,
    Seccomp,
}

/// The protections that a sandbox found to work, by trying them. Resource limits are always set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Own mount, network, PID, IPC and UTS namespaces: no file, no network, no process of the machine is there.
    pub namespaces: bool,
    /// The namespaces hang under a user namespace of their own.
    pub user_namespace: bool,
    /// The version of Landlock that hides files; asked only where there is no mount namespace.
    pub landlock: Option<u32>,
    /// Forbidden system calls: network, new processes and programs, memory shared by name, signals to others, tracing,
    /// mounting, changed permissions.
    pub seccomp: bool,
    /// Started by root, the program runs as nobody.
    pub nobody: bool,
    /// What is not active, and why.
    pub absent: Vec<String>,
}

impl Protection {
    /// No network, no writing outside, no reaching another process: the least that counts as a sandbox.
    pub fn is_enough(&self) -> bool {
        self.namespaces || self.seccomp
    }

    /// The machine's files, home among them, are neither readable nor writable.
    pub fn hides_files(&self) -> bool {
        self.namespaces || self.landlock.is_some()
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut active = Vec::new();
        match (self.namespaces, self.user_namespace) {
            (true, true) => active.push("namespaces (user, mount, network, PID, IPC)".to_owned()),
            (true, false) => active.push("namespaces (mount, network, PID, IPC)".to_owned()),
            (false, _) => {}
        }
        active.extend(self.landlock.map(|version| format!("Landlock {version}")));
        if self.seccomp {
            active.push("seccomp".to_owned());
        }
        active.push("resource limits".to_owned());
        if self.nobody {
            active.push("user nobody".to_owned());
        }
        f.write_str(&active.join(", "))?;
        if !self.is_enough() {
            f.write_str("; UNPROTECTED")?;
        } else if !self.hides_files() {
            f.write_str("; files and memory of this user are readable")?;
        }
        match self.absent.is_empty() {
            true => Ok(()),
            false => write!(f, "; absent: {}", self.absent.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_active_and_what_is_not() {
        let mut protection = Protection { seccomp: true, ..Protection::default() };
        protection.absent.push("namespaces (switched off)".to_owned());
        let line = "seccomp, resource limits; files and memory of this user are readable; absent: namespaces (switched off)";
        assert_eq!(protection.to_string(), line);
        assert!(Protection::default().to_string().contains("UNPROTECTED"));
    }
}
