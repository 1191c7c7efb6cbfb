use syn::{DeriveInput, parse_quote};

use crate::expand::implementation;

fn error_of(input: DeriveInput) -> String {
    implementation(input)
        .expect_err("the type cannot be kept in state")
        .to_string()
}

fn code_of(input: DeriveInput) -> String {
    implementation(input).unwrap().to_string().replace(' ', "")
}

#[test]
fn a_union_is_refused() {
    assert!(
        error_of(parse_quote! { union Bits { float: f32, int: u32 } }).starts_with("a union cannot be kept in state")
    );
}

#[test]
fn a_borrowing_type_is_refused() {
    assert!(error_of(parse_quote! { struct Line<'a> { text: &'a str } }).contains("`String` for `&str`"));
}

#[test]
fn a_type_that_contains_itself_is_refused() {
    let recursive = "a recursive type has no finite schema";
    assert!(error_of(parse_quote! { struct Tree { children: Vec<Tree> } }).contains(recursive));
    assert!(error_of(parse_quote! { enum List { End, More(u8, Box<Self>) } }).contains(recursive));
    // Another type of the same name is none of our business.
    assert!(implementation(parse_quote! { struct Tree { other: forest::Tree, leaf: tree::Leaf } }).is_ok());
}

#[test]
fn two_fields_or_variants_of_one_stored_name_are_refused() {
    assert_eq!(
        error_of(parse_quote! { struct Delay { worst: i64, #[state(rename = "worst")] mean: i64 } }),
        "two fields have the stored name `worst`"
    );
    assert_eq!(
        error_of(parse_quote! { enum Phase { #[state(rename = "Up")] Climb, Up } }),
        "two variants have the stored name `Up`"
    );
}

#[test]
fn an_unknown_or_empty_attribute_is_refused() {
    assert!(error_of(parse_quote! { #[state(name = "x")] struct A; }).starts_with("unknown attribute of a state type"));
    assert!(error_of(parse_quote! { struct A { #[state(skip)] b: u8 } }).contains("expected `rename = \"name\"`"));
    assert!(error_of(parse_quote! { enum A { #[state(default)] B } }).contains("unknown attribute of a state variant"));
    assert_eq!(
        error_of(parse_quote! { struct A { #[state(alias = "")] b: u8 } }),
        "the stored name is empty"
    );
    assert_eq!(
        error_of(parse_quote! { struct A { #[state(rename = "")] b: u8 } }),
        "the stored name is empty"
    );
}

#[test]
fn generated_code_refers_to_the_sdk_unless_told_otherwise() {
    assert!(code_of(parse_quote! { struct A; }).contains("impl::streamd::__private::state::StateforA"));
    assert!(
        code_of(parse_quote! { #[state(crate = "streamd_core")] struct A; })
            .contains("impl::streamd_core::state::StateforA")
    );
    assert!(
        code_of(parse_quote! { #[state(crate = "crate::core")] struct A; })
            .contains("implcrate::core::state::StateforA")
    );
}

#[test]
fn a_type_without_history_declares_none_and_asks_its_fields() {
    let code = code_of(parse_quote! { struct A { b: B } });
    assert!(code.contains("<Bas::streamd::__private::state::State>::describe_evolution(__evolution)"));
    assert!(!code.contains("TypeEvolution"));
}
