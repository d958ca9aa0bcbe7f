//! Two copies against a model, while one store at a time is away, forgets, or loses answers.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Change, Copies, NewValue};
use crate::counters::Counters;
use crate::expiry::Lifetime;
use crate::store::failing::Failing;
use crate::topology::{Node, Topology};

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Write {
        gateway: usize,
        key: u8,
    },
    Append {
        gateway: usize,
        key: u8,
    },
    Delete {
        gateway: usize,
        key: u8,
    },
    Read {
        gateway: usize,
        key: u8,
    },
    Touch {
        gateway: usize,
        key: u8,
    },
    /// A store goes away, when all are there.
    Leave {
        store: usize,
    },
    /// A store carries out what it is asked but says nothing, when all are there.
    LoseAnswers {
        store: usize,
    },
    /// The store that was away comes back, with what it had or with nothing.
    Return {
        is_empty: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (gateway, key, store) = (0..2_usize, 0..4_u8, 0..3_usize);
    prop_oneof![
        4 => (gateway.clone(), key.clone()).prop_map(|(gateway, key)| Step::Write { gateway, key }),
        2 => (gateway.clone(), key.clone()).prop_map(|(gateway, key)| Step::Append { gateway, key }),
        2 => (gateway.clone(), key.clone()).prop_map(|(gateway, key)| Step::Delete { gateway, key }),
        4 => (gateway.clone(), key.clone()).prop_map(|(gateway, key)| Step::Read { gateway, key }),
        1 => (gateway, key).prop_map(|(gateway, key)| Step::Touch { gateway, key }),
        1 => store.clone().prop_map(|store| Step::Leave { store }),
        1 => store.prop_map(|store| Step::LoseAnswers { store }),
        2 => any::<bool>().prop_map(|is_empty| Step::Return { is_empty }),
    ]
}

/// Two gateways before three stores, and what they should hold.
struct World {
    stores: Vec<Arc<Failing>>,
    gateways: Vec<Arc<Copies>>,
    model: HashMap<u8, String>,
    away: Option<usize>,
    written: u32,
}

impl World {
    fn new() -> Self {
        let stores: Vec<_> = ["a", "b", "c"].map(|name| Arc::new(Failing::new(name))).into();
        let nodes = || stores.iter().map(|store| Arc::clone(store) as Node).collect();
        let gateway = |number| {
            Arc::new(Copies::new(number, Topology::new(nodes(), 2), Arc::<Counters>::default()))
        };
        let gateways = vec![gateway(1), gateway(2)];
        Self { stores, gateways, model: HashMap::new(), away: None, written: 0 }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { gateway, key } => {
                let data = self.next_data();
                let new = NewValue { flags: 7, data: data.as_bytes(), lifetime: Lifetime::Forever };
                // PHP reads a session before it writes it.
                self.check(gateway, key).await;
                self.gateways[gateway].write(&[key], new).await.unwrap();
                self.model.insert(key, data);
            }
            Step::Append { gateway, key } => {
                let data = self.next_data();
                let append = |value: Option<&super::Value>| match value {
                    None => (Change::None, false),
                    Some(value) => {
                        let data = [&value.data, data.as_bytes()].concat();
                        (Change::Replace { flags: 7, data, lifetime: value.lifetime }, true)
                    }
                };
                let was_there = self.gateways[gateway].update(&[key], append).await.unwrap();
                assert_eq!(was_there, self.model.contains_key(&key));
                if let Some(value) = self.model.get_mut(&key) {
                    value.push_str(&data);
                }
            }
            Step::Delete { gateway, key } => {
                let delete = |value: Option<&super::Value>| match value {
                    None => (Change::None, false),
                    Some(_) => (Change::Delete, true),
                };
                let was_there = self.gateways[gateway].update(&[key], delete).await.unwrap();
                assert_eq!(was_there, self.model.remove(&key).is_some());
            }
            Step::Read { gateway, key } => self.check(gateway, key).await,
            Step::Touch { gateway, key } => {
                let touched =
                    self.gateways[gateway].touch(&[key], Lifetime::Forever).await.unwrap();
                assert_eq!(touched.is_some(), self.model.contains_key(&key));
            }
            Step::Leave { store } if self.away.is_none() => {
                self.stores[store].set_away(true);
                self.away = Some(store);
            }
            Step::LoseAnswers { store } if self.away.is_none() => {
                self.stores[store].set_loses_answers(true);
                self.away = Some(store);
            }
            Step::Return { is_empty } => self.bring_back(is_empty).await,
            Step::Leave { .. } | Step::LoseAnswers { .. } => {}
        }
    }

    fn next_data(&mut self) -> String {
        self.written += 1;
        format!("{} ", self.written)
    }

    /// Brings back the store that is away; every item is then read once, as by its visitors.
    async fn bring_back(&mut self, is_empty: bool) {
        let Some(store) = self.away.take() else { return };
        if is_empty {
            self.stores[store].forget();
        }
        self.stores[store].set_away(false);
        self.stores[store].set_loses_answers(false);
        for key in 0..4 {
            self.check(0, key).await;
        }
    }

    async fn check(&self, gateway: usize, key: u8) {
        let value = self.gateways[gateway].read(&[key]).await.unwrap();
        let text = value.map(|value| String::from_utf8(value.data.to_vec()).unwrap());
        assert_eq!(text.as_ref(), self.model.get(&key), "key {key} at gateway {gateway}");
    }
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_or_comes_back_while_one_store_at_a_time_is_away(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(async {
            let mut world = World::new();
            for step in &steps {
                world.take(step).await;
            }
            world.bring_back(false).await;
        });
    }
}

#[tokio::test]
async fn what_a_store_missed_is_mended_when_it_is_back_and_the_next_one_may_leave() {
    let mut world = World::new();
    let (raise, returns) = watch::channel(0);
    let stop = CancellationToken::new();
    let gateway = Arc::clone(&world.gateways[0]);
    for store in 0..3 {
        world.stores[store].set_away(true);
        for key in 0..4 {
            world.take(&Step::Write { gateway: 0, key }).await;
        }
        world.stores[store].set_away(false);
        raise.send_modify(|count| *count += 1);
        let watch = Arc::clone(&gateway).watch_returns(returns.clone(), stop.clone());
        // It has nothing to wait for, so one turn is enough.
        tokio::select! {
            biased;
            () = watch => {}
            () = tokio::task::yield_now() => {}
        }
    }
    for key in 0..4 {
        world.check(1, key).await;
    }
}
