//! What is to be done next while secrets are being replaced in a running fleet.
//!
//! Level-triggered, as the planner is: after a kill between any two steps the same question gives
//! the next step. Nothing here knows a secret.

use serde::{Deserialize, Serialize};

/// A kind of secret that can be replaced in a running fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// WordPress' keys and salts.
    Salts,
    /// The password of the database's user.
    Database,
    /// The tokens of the operator, the balancer and all agents.
    Tokens,
}

/// What of a rotation is still open, as it is stored with the secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open {
    /// There is a database password that the server may not know yet.
    pub has_new_password: bool,
    /// The server still takes the password of before.
    pub has_former_password: bool,
    /// There are tokens that are not in use yet.
    pub has_new_tokens: bool,
    /// What slots run with was changed, and they must get it.
    pub is_deploy_due: bool,
}

/// What is seen of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// A release serves.
    pub has_release: bool,
    /// The release in service was ordered with the newest settings.
    pub has_newest_settings: bool,
    /// A deploy is under way.
    pub is_deploying: bool,
    /// No request runs any more in slots with older settings, nor a scheduled event that began with
    /// them, or their time is up.
    pub is_drained: bool,
}

/// What to do. Each may be done again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Let the database take both passwords; then use the new one, and keep the other as the former.
    AdoptPassword,
    /// Take every agent's token away and use the new tokens, once the balancer takes its own.
    AdoptTokens,
    /// Deploy what serves once more, with the newest settings.
    Deploy,
    /// All slots that serve have the newest settings: note that.
    NoteDeployed,
    /// Let the database take the present password only.
    VoidFormerPassword,
    /// Look again later.
    Wait,
    /// Nothing is open.
    Rest,
}

/// Decides the next step.
#[must_use]
pub const fn next(open: Open, seen: Seen) -> Step {
    if open.has_new_password {
        return Step::AdoptPassword;
    }
    if open.has_new_tokens {
        return if seen.is_deploying { Step::Wait } else { Step::AdoptTokens };
    }
    if !open.is_deploy_due && !open.has_former_password {
        return Step::Rest;
    }
    if seen.is_deploying {
        return Step::Wait;
    }
    if seen.has_release && !seen.has_newest_settings {
        return Step::Deploy;
    }
    if open.is_deploy_due {
        return Step::NoteDeployed;
    }
    if seen.is_drained { Step::VoidFormerPassword } else { Step::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a step changes, when nothing goes wrong.
    const fn done(open: Open, seen: Seen, step: Step) -> (Open, Seen) {
        match step {
            Step::AdoptPassword => (
                Open {
                    has_new_password: false,
                    has_former_password: true,
                    is_deploy_due: true,
                    ..open
                },
                Seen { has_newest_settings: false, ..seen },
            ),
            Step::AdoptTokens => (Open { has_new_tokens: false, ..open }, seen),
            Step::Deploy => (open, Seen { has_newest_settings: true, is_drained: true, ..seen }),
            Step::NoteDeployed => (Open { is_deploy_due: false, ..open }, seen),
            Step::VoidFormerPassword => (Open { has_former_password: false, ..open }, seen),
            Step::Wait | Step::Rest => (open, seen),
        }
    }

    #[test]
    fn every_rotation_comes_to_rest_from_wherever_it_was_cut_off() {
        for bits in 0..64_u8 {
            let is_set = |bit: u8| bits >> bit & 1 == 1;
            let mut open = Open {
                has_new_password: is_set(0),
                has_former_password: is_set(1),
                has_new_tokens: is_set(2),
                is_deploy_due: is_set(3),
            };
            let mut seen = Seen {
                has_release: true,
                has_newest_settings: is_set(4),
                is_deploying: false,
                is_drained: is_set(5) || is_set(4),
            };
            let mut steps = Vec::new();
            while steps.last() != Some(&Step::Rest) {
                assert!(steps.len() < 10, "{bits:06b}: {steps:?}");
                let step = next(open, seen);
                (open, seen) = done(open, seen, step);
                steps.push(step);
            }
            assert_eq!(open, Open::default(), "{bits:06b}");
        }
    }

    #[test]
    fn a_password_is_void_only_when_nothing_uses_it() {
        let open = Open { has_former_password: true, ..Open::default() };
        let seen = Seen { has_release: true, ..Seen::default() };
        assert_eq!(next(open, seen), Step::Deploy);
        let deploying = Seen { is_deploying: true, ..seen };
        assert_eq!(next(open, deploying), Step::Wait);
        let served = Seen { has_newest_settings: true, ..seen };
        assert_eq!(next(open, served), Step::Wait, "requests of before still run");
        let drained = Seen { is_drained: true, ..served };
        assert_eq!(next(open, drained), Step::VoidFormerPassword);
    }
}
