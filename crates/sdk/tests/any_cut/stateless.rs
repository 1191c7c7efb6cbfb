//! Operators without state, and ways of dealing records out.

use proptest::prelude::*;
use streamd::prelude::*;

use crate::events::Event;
use crate::trial::{Done, config, trials};

/// Odd numbers leave by the side.
#[derive(Clone)]
struct ByTheSide;

const ODD: OutputTag<String> = OutputTag::new("odd");

impl ProcessFunction<Event, String> for ByTheSide {
    fn process_element(
        &mut self,
        event: Event,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Done {
        match event.0 % 2 {
            0 => out.collect(format!("even {}", event.0)),
            _odd => context.output(&ODD, format!("odd {}", event.0))?,
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn records_are_turned_into_others(trial in trials()) {
        let few = trial.events().iter().filter(|event| event.1 != 2);
        let copies = few.flat_map(|event| (0..event.1).map(move |copy| format!("{} {copy}", event.0)));
        let all = trial.events().iter().map(|event| event.0.to_string());
        trial.check(copies.chain(all), |events| {
            let copies = events.filter(|event| event.1 != 2).flat_map(|event: Event, out: &mut Collector<'_, String>| {
                (0..event.1).for_each(|copy| out.collect(format!("{} {copy}", event.0)));
            });
            copies.union(&[&events.map(|event| event.0.to_string())]).map(|line| line)
        })?;
    }

    #[test]
    fn records_leave_by_the_side(trial in trials()) {
        let name = |number: u64| if number.is_multiple_of(2) { "even" } else { "odd" };
        let expected = trial.events().iter().map(|event| format!("{} {}", name(event.0), event.0));
        trial.check(expected, |events| {
            let evens = events.process(ByTheSide);
            evens.union(&[&evens.get_side_output(&ODD)]).map(|line| line)
        })?;
    }

    #[test]
    fn records_are_dealt_out_in_every_way(trial in trials()) {
        let expected = trial.events().iter().flat_map(|event| (0..6).map(move |way| format!("{way} {}", event.0)));
        trial.check(expected, |events| {
            let ways = [
                events.forward(),
                events.rebalance(),
                events.rescale(),
                events.shuffle(),
                events.global(),
                events.partition_custom(|event, subtasks| event.1 % subtasks),
            ];
            let dealt: Vec<_> = (0..).zip(ways).map(|(way, dealt): (u32, DataStream<Event>)| {
                dealt.map(move |event| format!("{way} {}", event.0))
            }).collect();
            let others: Vec<_> = dealt[1..].iter().collect();
            dealt[0].union(&others).map(|line| line)
        })?;
        // A broadcast copies each record to as many subtasks as there are in the leg that reads it.
        let mut seen = trial.run(|events| events.broadcast().map(|event: Event| event.0.to_string()));
        seen.dedup();
        let mut expected: Vec<_> = trial.events().iter().map(|event| event.0.to_string()).collect();
        expected.sort();
        prop_assert_eq!(seen, expected);
    }
}
