//! Which cards share a run, and how they exchange weights and gradients.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

/// What `--exchange` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExchangeRequest {
    /// From card to card, by NVIDIA's library.
    Nccl,
    /// Through the host's memory.
    Host,
}

/// What `--gpus` takes: `all`, or numbers such as `0,1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// Every card that the driver knows.
    All,
    /// These, by the driver's numbers; the first keeps the optimizer. At least one, and none twice.
    These(Vec<usize>),
}

impl Gpus {
    /// The one that keeps weights and optimizer.
    #[must_use]
    pub fn first(&self) -> usize {
        match self {
            Self::All => 0,
            Self::These(numbers) => numbers[0],
        }
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::These(numbers) => formatter.write_str(&listed(numbers)),
        }
    }
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "all" {
            return Ok(Self::All);
        }
        match parse_cards(text) {
            Ok(numbers) => Ok(Self::These(numbers)),
            Err(CardsError::NotNumbers) => Err("expected `all`, or numbers of cards such as `0,1`".to_owned()),
            Err(CardsError::Twice { number, .. }) => Err(format!("card {number} is named twice")),
        }
    }
}

/// Why a text names no cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CardsError {
    /// Something between the commas is no number.
    NotNumbers,
    /// A card is named twice.
    Twice {
        /// The first such card.
        number: usize,
        /// The list with each card once.
        once: Vec<usize>,
    },
}

/// Numbers of cards between commas, in the order given, none twice.
pub(super) fn parse_cards(text: &str) -> Result<Vec<usize>, CardsError> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    let mut once: Vec<usize> = Vec::new();
    let mut twice = None;
    for number in numbers.map_err(|_| CardsError::NotNumbers)? {
        match once.contains(&number) {
            true => twice = twice.or(Some(number)),
            false => once.push(number),
        }
    }
    match twice {
        Some(number) => Err(CardsError::Twice { number, once }),
        None => Ok(once),
    }
}

/// The numbers as they are typed: `0,1`.
pub(super) fn listed(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_named_once_each_or_all_together() {
        assert_eq!("all".parse(), Ok(Gpus::All));
        assert_eq!("1, 0,3".parse(), Ok(Gpus::These(vec![1, 0, 3])));
        assert_eq!("2".parse(), Ok(Gpus::These(vec![2])));
        let told = |text: &str| text.parse::<Gpus>().map(|gpus| (gpus.to_string(), gpus.first()));
        assert_eq!(told("1, 0"), Ok(("1,0".to_owned(), 1)));
        assert_eq!(told("all"), Ok(("all".to_owned(), 0)));
        for wrong in ["", "0,", "a", "-1", "0;1", "everything"] {
            assert!(wrong.parse::<Gpus>().is_err_and(|said| said.contains("`0,1`")), "{wrong}");
        }
        assert_eq!("0,1,0".parse::<Gpus>(), Err("card 0 is named twice".to_owned()));
    }
}
