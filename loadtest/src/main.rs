//! Load with the books checked: `run` one scenario, `bench` Afflux beside its peers, `report` and `compare` what they wrote.
mod outcome;

fn main() {}
