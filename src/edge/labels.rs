//! What a request looks like: labels never stop a click (contract E27).

use std::net::IpAddr;

use super::lists::Lists;
use super::remembered::Remembered;
use super::said::Said;
use crate::click::{LABEL_BOT, LABEL_NON_NAVIGATION, LABEL_PREFETCH};

/// How many labels the edge finds; `duplicate` is found later.
pub const LABELS: usize = 9;

/// Labels of a click, by the names of the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub bot: bool,
    pub prefetch: bool,
    pub non_navigation: bool,
    pub datacenter: bool,
    pub no_user_agent: bool,
    pub truncated: bool,
    pub deep_link_rejected: bool,
    /// Global Privacy Control: `Sec-GPC: 1`.
    pub gpc: bool,
    /// Do Not Track: `DNT: 1`.
    pub dnt: bool,
}

impl Flags {
    /// What headers and address tell. Allocates nothing.
    pub fn of(said: &Said<'_>, address: IpAddr, lists: &Lists, remembered: &mut Remembered) -> Flags {
        let no_user_agent = said.user_agent.trim_ascii().is_empty();
        Flags {
            bot: !no_user_agent && remembered.is_bot(said.user_agent, lists),
            prefetch: said.prefetch,
            non_navigation: said.non_navigation,
            datacenter: lists.datacenters.contains(address),
            no_user_agent,
            gpc: said.gpc,
            dnt: said.dnt,
            ..Flags::default()
        }
    }

    /// Each label and whether the click has it, in the order of the event.
    pub fn labels(self) -> [(bool, &'static str); LABELS] {
        [
            (self.bot, "bot"),
            (self.prefetch, "prefetch"),
            (self.non_navigation, "non_navigation"),
            (self.datacenter, "datacenter"),
            (self.no_user_agent, "no_user_agent"),
            (self.truncated, "truncated"),
            (self.deep_link_rejected, "deep_link_rejected"),
            (self.gpc, "gpc"),
            (self.dnt, "dnt"),
        ]
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.labels().into_iter().filter_map(|(set, name)| set.then_some(name))
    }

    /// Known without the dedupe.
    pub fn billable(self) -> bool {
        !(self.bot || self.prefetch || self.non_navigation)
    }

    /// The labels inside the click ID (contract E42).
    pub fn bits(self) -> u8 {
        let labels =
            [(self.non_navigation, LABEL_NON_NAVIGATION), (self.prefetch, LABEL_PREFETCH), (self.bot, LABEL_BOT)];
        labels.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit)
    }
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
