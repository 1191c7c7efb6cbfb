use std::collections::{BTreeMap, HashMap, VecDeque};

use super::*;
use proptest::prelude::*;

type Everything = (
    i64,
    String,
    Option<Vec<u16>>,
    BTreeMap<String, (bool, u8)>,
    HashMap<i32, String>,
);

proptest! {
    #[test]
    fn a_value_survives_its_row(value: Everything) {
        prop_assert_eq!(&from_row::<Everything>(&to_row(&value)).unwrap(), &value);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
        let _ = from_row::<Everything>(&bytes);
    }

    #[test]
    fn a_prefix_of_a_row_is_refused(value: Everything, cut: prop::sample::Index) {
        let row = to_row(&value);
        prop_assert!(from_row::<Everything>(&row[..cut.index(row.len())]).is_err());
    }
}

#[test]
fn a_list_of_bytes_is_bytes() {
    assert_eq!(Vec::<u8>::data_type(), DataType::Bytes);
    assert_eq!(Vec::<i8>::data_type(), DataType::List(Box::new(DataType::Int8)));
    assert_eq!(
        to_row(&vec![1u8, 2]),
        to_row(&vec![1i8, 2]),
        "the encoding is that of any list"
    );
    assert_eq!(from_row::<[u8; 3]>(&to_row(&[7u8; 3])), Ok([7; 3]));
}

#[test]
fn a_queue_is_a_list_also_where_it_has_gone_round_its_memory() {
    let mut queue = VecDeque::with_capacity(4);
    queue.extend([1u32, 2, 3, 4]);
    queue.rotate_left(2);
    queue.pop_front();
    queue.push_back(5);
    let list = Vec::from_iter(queue.clone());
    assert!(!queue.as_slices().1.is_empty(), "in two pieces");
    assert_eq!(to_row(&queue), to_row(&list));
    assert_eq!(VecDeque::<u32>::data_type(), Vec::<u32>::data_type());
    assert_eq!(from_row::<VecDeque<u32>>(&to_row(&list)), Ok(queue));
    assert_eq!(to_row(&VecDeque::from([1u8, 2])), to_row(&vec![1u8, 2]));
}

#[test]
fn a_list_that_does_not_grow_is_a_list() {
    let list = vec!["a".to_owned(), String::new()];
    let boxed: Box<[String]> = list.clone().into();
    assert_eq!(to_row(&boxed), to_row(&list));
    assert_eq!(from_row::<Box<[String]>>(&to_row(&list)), Ok(boxed));
    assert_eq!(Box::<[u8]>::data_type(), Vec::<u8>::data_type());
}

#[test]
fn a_forged_count_does_not_allocate() {
    assert!(from_row::<Vec<u64>>(&u32::MAX.to_le_bytes()).is_err());
}

#[test]
fn a_forged_count_of_nothing_does_not_loop() {
    let forged = u32::MAX.to_le_bytes();
    assert!(from_row::<Vec<()>>(&forged).is_err());
    assert!(from_row::<BTreeMap<(), ()>>(&forged).is_err());
    assert!(RowReader::new(&forged).value(&Vec::<()>::data_type()).is_err());
    assert_eq!(from_row::<Vec<()>>(&to_row(&vec![(); 1000])), Ok(vec![(); 1000]));
}

proptest! {
    #[test]
    fn the_bytes_of_a_value_end_where_it_ends(value: Everything, rest: Vec<u8>) {
        let mut row = to_row(&value);
        let length = row.len();
        row.extend(rest);
        prop_assert_eq!(RowReader::new(&row).value(&Everything::data_type()).unwrap().len(), length);
    }
}

proptest! {
    #[test]
    fn a_short_text_has_the_hash_of_its_row(text in proptest::collection::vec(0u8..128, 0..16)) {
        let text = String::from_utf8(text).unwrap();
        prop_assert_eq!(text.stable_hash(), xxh3_64(&to_row(&text)));
    }
}

#[test]
fn the_hash_of_a_key_never_changes() {
    // Golden values of key hash version 1: a change here loses every user's state.
    assert_eq!(42u64.stable_hash(), xxh3_64(&42u64.to_le_bytes()));
    assert_eq!("ATL".to_owned().stable_hash(), xxh3_64(b"\x03\0\0\0ATL"));
    assert_eq!(42u64.stable_hash(), 15_395_265_915_043_915_720);
    for length in (0..70).chain([1000]) {
        let key: String = "kafkaesque ".chars().cycle().take(length).collect();
        assert_eq!(key.stable_hash(), xxh3_64(&to_row(&key)), "a string of {length} bytes");
        assert_eq!((key.clone(),).stable_hash(), xxh3_64(&to_row(&key)), "a tuple of it");
        let short = SmolStr::from(key.as_str());
        assert_eq!(short.stable_hash(), key.stable_hash(), "a short string of it");
        assert_eq!(to_row(&short), to_row(&key));
        assert_eq!(from_row::<SmolStr>(&to_row(&key)).unwrap(), short);
    }
}

#[test]
fn asking_for_the_memory_of_a_value_of_any_shape_does_nothing_to_it() {
    let value = (
        7u8,
        vec!["a".to_owned(), String::new()],
        Some(Vec::<u64>::new()),
        [1i16, 2],
    );
    let before = to_row(&value);
    value.prefetch();
    assert_eq!(to_row(&value), before);
}
