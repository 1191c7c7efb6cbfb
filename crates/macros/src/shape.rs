//! The shape of a type, checked: which fields it has and under which names they are stored.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Fields, Generics, Ident, Index, Member, Type};

use crate::attributes::{DefaultValue, of_field, of_variant, plain};

/// A struct or an enum.
pub(crate) enum Shape {
    /// The fields of a struct: named, by position, or none.
    Struct(Vec<FieldShape>),
    /// The variants of an enum.
    Enum(Vec<VariantShape>),
}

/// A variant of an enum.
pub(crate) struct VariantShape {
    /// Its Rust name.
    pub(crate) ident: Ident,
    /// Its name in snapshots.
    pub(crate) name: String,
    /// Names that it had in older snapshots.
    pub(crate) aliases: Vec<String>,
    /// Its fields.
    pub(crate) fields: Vec<FieldShape>,
}

/// A field of a struct or variant.
pub(crate) struct FieldShape {
    /// How Rust calls it: by name or by position.
    pub(crate) member: Member,
    /// The variable that generated code binds it to.
    pub(crate) binding: Ident,
    /// Its name in snapshots.
    pub(crate) name: String,
    /// Names that it had in older snapshots.
    pub(crate) aliases: Vec<String>,
    /// Its value where an older snapshot has none.
    pub(crate) default: Option<DefaultValue>,
    /// The type of its values.
    pub(crate) ty: Type,
}

impl Shape {
    /// The shape of the type that the derive stands on. Errors name what cannot be stored, at the place where it stands.
    pub(crate) fn of(input: &DeriveInput) -> syn::Result<Self> {
        refuse_lifetimes(&input.generics)?;
        let shape = match &input.data {
            Data::Struct(data) => Self::Struct(fields_of(&data.fields)?),
            Data::Enum(data) => {
                let variants = data
                    .variants
                    .iter()
                    .map(|variant| {
                        let mut attributes = of_variant(&variant.attrs)?;
                        Ok(VariantShape {
                            name: attributes.stored_name(&plain(&variant.ident)),
                            aliases: attributes.aliases,
                            fields: fields_of(&variant.fields)?,
                            ident: variant.ident.clone(),
                        })
                    })
                    .collect::<syn::Result<Vec<_>>>()?;
                refuse_duplicates(variants.iter().map(|v| (v.name.as_str(), v.ident.span())), "variants")?;
                Self::Enum(variants)
            }
            Data::Union(data) => {
                return Err(syn::Error::new(
                    data.union_token.span(),
                    "a union cannot be kept in state: nothing tells which of its fields is valid; use an enum",
                ));
            }
        };
        shape.refuse_recursion(&input.ident)?;
        Ok(shape)
    }

    /// A type that contains itself has no finite schema.
    fn refuse_recursion(&self, name: &Ident) -> syn::Result<()> {
        let in_fields = |fields: &[FieldShape]| fields.iter().find_map(|f| find_self(f.ty.to_token_stream(), name));
        let found = match self {
            Self::Struct(fields) => in_fields(fields),
            Self::Enum(variants) => variants.iter().find_map(|variant| in_fields(&variant.fields)),
        };
        match found {
            Some(span) => Err(syn::Error::new(
                span,
                format!("`{name}` contains itself: a recursive type has no finite schema and cannot be kept in state"),
            )),
            None => Ok(()),
        }
    }

    /// The fields of the struct, or of all variants.
    pub(crate) fn fields(&self) -> Vec<&FieldShape> {
        match self {
            Self::Struct(fields) => fields.iter().collect(),
            Self::Enum(variants) => variants.iter().flat_map(|variant| &variant.fields).collect(),
        }
    }
}

fn fields_of(fields: &Fields) -> syn::Result<Vec<FieldShape>> {
    let fields = fields
        .iter()
        .enumerate()
        .map(|(position, field)| {
            let rust_name = field.ident.as_ref().map_or_else(|| position.to_string(), plain);
            let mut attributes = of_field(&field.attrs)?;
            Ok(FieldShape {
                member: field
                    .ident
                    .clone()
                    .map_or_else(|| Member::Unnamed(Index::from(position)), Member::Named),
                binding: format_ident!("__field_{position}"),
                name: attributes.stored_name(&rust_name),
                aliases: attributes.aliases,
                default: attributes.default,
                ty: field.ty.clone(),
            })
        })
        .collect::<syn::Result<Vec<_>>>()?;
    refuse_duplicates(fields.iter().map(|f| (f.name.as_str(), f.ty.span())), "fields")?;
    Ok(fields)
}

fn refuse_lifetimes(generics: &Generics) -> syn::Result<()> {
    match generics.lifetimes().next() {
        Some(lifetime) => Err(syn::Error::new(
            lifetime.span(),
            "a type with a lifetime borrows its data and cannot be kept in state: own it, as in `String` for `&str`",
        )),
        None => Ok(()),
    }
}

fn refuse_duplicates<'a>(names: impl Iterator<Item = (&'a str, Span)>, what: &str) -> syn::Result<()> {
    let mut seen = BTreeSet::new();
    for (name, span) in names {
        if !seen.insert(name) {
            return Err(syn::Error::new(
                span,
                format!("two {what} have the stored name `{name}`"),
            ));
        }
    }
    Ok(())
}

/// Where the bare name of the type, or `Self`, stands among the tokens of a field's type. With a path before or behind
/// it (`other::Delay`, `Self::Unit`) it is another type.
fn find_self(tokens: TokenStream, name: &Ident) -> Option<Span> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    tokens.iter().enumerate().find_map(|(position, tree)| match tree {
        TokenTree::Group(group) => find_self(group.stream(), name),
        TokenTree::Ident(ident) if ident == name || ident == "Self" => {
            let bare = !is_colon(position.checked_sub(1).and_then(|before| tokens.get(before)))
                && !is_colon(tokens.get(position + 1));
            bare.then(|| ident.span())
        }
        TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
    })
}
