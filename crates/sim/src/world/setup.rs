//! What is to be run, and its short form in text: a seed, and what differs from the usual.

use std::fmt;
use std::str::FromStr;

use super::faults::FaultSet;
use super::workload::WorkloadKind;

/// What is to be run. The same set-up gives the same run, event by event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Decides everything that is left open.
    pub seed: u64,
    /// How many nodes found the group; drawn from the seed if it is not said.
    pub nodes: Option<usize>,
    /// How many clients there are.
    pub clients: u64,
    /// What they do; drawn from the seed if it is not said.
    pub workload: Option<WorkloadKind>,
    /// How long faults happen, in milliseconds of the world. It goes on for a while after that.
    pub length_ms: u64,
    /// Which faults there may be.
    pub faults: FaultSet,
    /// All of them are there, instead of a subset that the seed draws.
    pub faults_always: bool,
    /// Keep a line for each event.
    pub keeps_trace: bool,
}

/// How long faults happen, in milliseconds, if nothing else is said: some elections, some crashes.
const LENGTH_MS: u64 = 30_000;

/// How many clients there are, if nothing else is said: enough for conflicts.
const CLIENTS: u64 = 4;

/// The least and the most nodes that found a group.
pub(crate) const NODES: std::ops::RangeInclusive<usize> = 1..=7;

impl Setup {
    /// Returns the usual one of a seed.
    pub fn new(seed: u64) -> Setup {
        Setup {
            seed,
            nodes: None,
            clients: CLIENTS,
            workload: None,
            length_ms: LENGTH_MS,
            faults: FaultSet::ALL,
            faults_always: false,
            keeps_trace: false,
        }
    }

    pub(crate) fn length_micros(&self) -> u64 {
        self.length_ms.saturating_mul(1000)
    }
}

/// `SEED`, or `SEED:option=value,…` with what differs from the usual.
impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Setup::new(self.seed);
        let mut options = Vec::new();
        if let Some(nodes) = self.nodes {
            options.push(format!("nodes={nodes}"));
        }
        if self.clients != usual.clients {
            options.push(format!("clients={}", self.clients));
        }
        if let Some(workload) = self.workload {
            options.push(format!("workload={workload}"));
        }
        if self.length_ms != usual.length_ms {
            options.push(format!("ms={}", self.length_ms));
        }
        if self.faults_always {
            options.push(format!("faults={}", self.faults));
        } else if self.faults != usual.faults {
            options.push(format!("some={}", self.faults));
        }
        let (seed, options) = (self.seed, options.join(","));
        if options.is_empty() { write!(f, "{seed}") } else { write!(f, "{seed}:{options}") }
    }
}

impl FromStr for Setup {
    type Err = String;

    fn from_str(text: &str) -> Result<Setup, String> {
        let (seed, options) = text.split_once(':').unwrap_or((text, ""));
        let mut setup = Setup::new(number("the seed", seed)?);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "nodes" => {
                    let nodes = number(name, value)? as usize;
                    if !NODES.contains(&nodes) {
                        return Err(format!("nodes={nodes}: there can be 1 to 7"));
                    }
                    setup.nodes = Some(nodes);
                }
                "clients" => setup.clients = number(name, value)?,
                "workload" => setup.workload = Some(value.parse()?),
                "ms" => setup.length_ms = number(name, value)?,
                "faults" => (setup.faults, setup.faults_always) = (value.parse()?, true),
                "some" => (setup.faults, setup.faults_always) = (value.parse()?, false),
                _ => {
                    return Err(format!(
                        "there is no option '{name}'; there are: nodes, clients, workload, ms, \
                         faults, some"
                    ));
                }
            }
        }
        Ok(setup)
    }
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name}: '{text}' is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setups_survive_the_way_through_text() {
        for text in
            ["7", "7:nodes=3,clients=1,workload=bank,ms=500,faults=loss+kill", "9:some=loss+rot"]
        {
            assert_eq!(text.parse::<Setup>().unwrap().to_string(), text);
        }
        for text in ["", "x", "7:nodes=9", "7:weather=bad", "7:faults=fire", "7:workload=work"] {
            assert!(text.parse::<Setup>().is_err(), "{text}");
        }
    }
}
