//! Counts the primes up to `n`: work for the processor, little for the memory.

use serde::{Deserialize, Serialize};

/// Numbers looked at in one go: they fit the first-level cache.
const SEGMENT: usize = 32 * 1024;

#[derive(Deserialize)]
struct Params {
    n: u32,
}

#[derive(Serialize)]
struct Found {
    n: u32,
    count: u32,
    largest: Option<u32>,
}

#[wisp_action::main]
fn run(Params { n }: Params) -> wisp_action::Result<Found> {
    let divisors = divisors(n);
    let mut found = Found {
        n,
        count: 0,
        largest: None,
    };
    let mut composite = [false; SEGMENT];
    let mut start = 0u64;
    while start <= u64::from(n) {
        composite.fill(false);
        for &prime in &divisors {
            // Smaller multiples have a smaller divisor, which has crossed them out.
            let first = (prime * prime).max(start.div_ceil(prime) * prime);
            for multiple in (first..start + SEGMENT as u64).step_by(prime as usize) {
                composite[(multiple - start) as usize] = true;
            }
        }
        let end = (start + SEGMENT as u64).min(u64::from(n) + 1);
        for number in start.max(2)..end {
            if !composite[(number - start) as usize] {
                found.count += 1;
                found.largest = Some(number as u32);
            }
        }
        start += SEGMENT as u64;
    }
    Ok(found)
}

/// The primes up to the square root of `n`.
fn divisors(n: u32) -> Vec<u64> {
    let mut primes: Vec<u64> = Vec::new();
    let mut number = 2u64;
    while number * number <= u64::from(n) {
        if primes
            .iter()
            .take_while(|&p| p * p <= number)
            .all(|p| !number.is_multiple_of(*p))
        {
            primes.push(number);
        }
        number += 1;
    }
    primes
}

#[cfg(test)]
mod tests {
    use super::{Params, run};

    #[test]
    fn the_primes_are_counted() {
        for (n, count, largest) in [
            (0, 0, None),
            (2, 1, Some(2)),
            (100, 25, Some(97)),
            (1_000_000, 78_498, Some(999_983)),
        ] {
            let found = run(Params { n }).unwrap();
            assert_eq!((found.count, found.largest), (count, largest), "up to {n}");
        }
    }
}
