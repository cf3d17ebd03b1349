//! Ways to get the protocol wrong. Each is known at compile time (a constant of the functions that
//! consult it), so that the sound protocol carries no trace of them; and all are in one program, so
//! that the tests see each of them fail.

/// The sound protocol, where a number of a mutant is asked for.
pub const SOUND: u8 = 0;

macro_rules! mutants {
    ($($number:literal $name:ident $text:literal $what:literal)*) => {
        /// A rule of the protocol that is left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {$(
            #[doc = $what]
            $name = $number,
        )*}

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name),*];

            /// Returns its name on a command line.
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$name => $text),* }
            }

            /// Returns what it does wrong.
            pub const fn what(self) -> &'static str {
                match self { $(Mutant::$name => $what),* }
            }
        }
    };
}

mutants! {
    1 MinCts "min_cts" "Commits at the start timestamp + 1, not at the maximum of the prepared."
    2 FenceAfterLock "fence_after_lock" "A read looks for locks first, and then raises the fence."
    3 NoLowWater "no_lowwater" "A new leader begins with a fence of zero."
    4 LimitInf "limit_inf" "Reads count as valid for ever."
    5 NoRefresh "no_refresh" "A pushed transaction commits without looking at its reads again."
    6 NoExpect "no_expect" "Finalize decides whatever the record was expected to be."
    7 NoMarker "no_marker" "A probe that finds nothing prepared leaves no marker."
    8 NoApplyGuard "no_apply_guard" "Only the leader's evaluation looks for markers and records."
    9 NoLockCheck "no_lock_check" "Reads are validated against versions, and not against locks."
    10 NaiveAbort "naive_abort" "A coordinator that was refused replies Abort by its own opinion."
    11 MutablePrepare "mutable_prepare" "A second Prepare moves the timestamp of the first."
    12 NoT2 "no_t2" "Timestamps may run ahead of what the oracle issued."
    13 OnePhaseResent "one_phase_resent" "CommitOne is sent again when no answer comes."
    14 OracleForgets "oracle_forgets" "A new oracle starts at the last timestamp it heard of."
    15 AckEarly "ack_early" "The client hears of the commit when the primary is prepared."
    16 ResolveFirst "resolve_first" "The locks are resolved before the record is final."
}

/// Returns true if the mutant with number `M` is this one.
pub(super) const fn is<const M: u8>(mutant: Mutant) -> bool {
    M == mutant as u8
}
