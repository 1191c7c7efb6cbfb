//! The generated implementation.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Expr, ExprLit, Lit, Path, parse_quote};

use crate::attributes::{DefaultValue, TypeAttributes, of_type, plain};
use crate::shape::{FieldShape, Shape, VariantShape};

/// The implementation of `State` for the type in `input`, or the compile error that says why there is none.
pub(crate) fn derive(input: TokenStream) -> TokenStream {
    syn::parse2(input)
        .and_then(implementation)
        .unwrap_or_else(|error| error.to_compile_error())
}

/// The implementation of `State`.
pub(crate) fn implementation(mut input: DeriveInput) -> syn::Result<TokenStream> {
    let TypeAttributes { home, migrations } = of_type(&input.attrs)?;
    let shape = Shape::of(&input)?;
    for parameter in input.generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(#home::state::State));
    }

    let writer = Writer { home: &home };
    let ident = &input.ident;
    let name = plain(ident);
    let Bodies {
        data_type,
        encode,
        prefetch,
        decode,
    } = match &shape {
        Shape::Struct(fields) => writer.struct_bodies(&name, fields),
        Shape::Enum(variants) => writer.enum_bodies(&name, variants),
    };
    let evolution = writer.evolution(&shape, &migrations);
    let field_types = shape.fields().into_iter().map(|field| &field.ty);
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #home::state::State for #ident #type_generics #where_clause {
            const OWNS_MEMORY: bool = false #(|| <#field_types as #home::state::State>::OWNS_MEMORY)*;

            fn data_type() -> #home::row::DataType {
                #data_type
            }

            fn encode(&self, __row: &mut ::std::vec::Vec<u8>) {
                #encode
            }

            fn prefetch(&self) {
                #prefetch
            }

            fn decode(
                __row: &mut #home::row::RowReader<'_>,
            ) -> ::std::result::Result<Self, #home::row::RowError> {
                #decode
            }

            fn describe_evolution(__evolution: &mut #home::evolution::Evolution) {
                #evolution
            }
        }
    })
}

/// The bodies of the functions.
struct Bodies {
    data_type: TokenStream,
    encode: TokenStream,
    prefetch: TokenStream,
    decode: TokenStream,
}

/// Writes code that refers to streamd-core through one path.
struct Writer<'a> {
    home: &'a Path,
}

impl Writer<'_> {
    fn struct_bodies(&self, name: &str, fields: &[FieldShape]) -> Bodies {
        let home = self.home;
        let schema = self.schema(fields);
        let pattern = pattern(fields);
        let (encode, prefetch) = (self.encode(fields), self.prefetch(fields));
        let decode = self.decode(fields);
        Bodies {
            data_type: quote! {
                #home::row::DataType::Struct {
                    name: ::std::string::String::from(#name),
                    fields: #schema,
                }
            },
            encode: quote! {
                let Self { #pattern } = self;
                #encode
            },
            prefetch: quote! {
                let Self { #pattern } = self;
                #prefetch
            },
            decode: quote! { ::std::result::Result::Ok(Self { #decode }) },
        }
    }

    fn enum_bodies(&self, name: &str, variants: &[VariantShape]) -> Bodies {
        let home = self.home;
        let schemas = variants.iter().map(|variant| {
            let (variant_name, fields) = (&variant.name, self.schema(&variant.fields));
            quote! {
                #home::row::Variant { name: ::std::string::String::from(#variant_name), fields: #fields }
            }
        });
        let encode = (0u32..).zip(variants).map(|(index, variant)| {
            let (ident, pattern, encode) = (&variant.ident, pattern(&variant.fields), self.encode(&variant.fields));
            quote! {
                Self::#ident { #pattern } => {
                    __row.extend_from_slice(&#index.to_le_bytes());
                    #encode
                }
            }
        });
        let prefetch = variants.iter().map(|variant| {
            let (ident, pattern, prefetch) = (&variant.ident, pattern(&variant.fields), self.prefetch(&variant.fields));
            quote! { Self::#ident { #pattern } => { #prefetch } }
        });
        let decode = (0u32..).zip(variants).map(|(index, variant)| {
            let (ident, decode) = (&variant.ident, self.decode(&variant.fields));
            quote! { #index => ::std::result::Result::Ok(Self::#ident { #decode }), }
        });
        let what = format!("the variant of `{name}`");
        // An enum without variants has no value: only behind the reference does the compiler see that.
        let (encode, prefetch) = match variants {
            [] => (quote! { match *self {} }, quote! { match *self {} }),
            _some => (
                quote! { match self { #(#encode)* } },
                quote! { match self { #(#prefetch)* } },
            ),
        };
        Bodies {
            data_type: quote! {
                #home::row::DataType::Enum {
                    name: ::std::string::String::from(#name),
                    variants: ::std::vec![#(#schemas),*],
                }
            },
            encode,
            prefetch,
            decode: quote! {
                match u32::from_le_bytes(__row.array()?) {
                    #(#decode)*
                    __other => ::std::result::Result::Err(#home::row::RowError::Invalid {
                        what: #what,
                        value: ::std::convert::Into::into(__other),
                    }),
                }
            },
        }
    }

    /// The schema of the fields.
    fn schema(&self, fields: &[FieldShape]) -> TokenStream {
        let home = self.home;
        let fields = fields.iter().map(|field| {
            let (name, ty) = (&field.name, &field.ty);
            let data_type = quote_spanned! { ty.span() => <#ty as #home::state::State>::data_type() };
            quote! {
                #home::row::Field { name: ::std::string::String::from(#name), data_type: #data_type }
            }
        });
        quote! { ::std::vec![#(#fields),*] }
    }

    /// Statements that encode the bound fields.
    fn encode(&self, fields: &[FieldShape]) -> TokenStream {
        let home = self.home;
        fields
            .iter()
            .map(|FieldShape { binding, ty, .. }| {
                // At the place of the type: a field that is no `State` is what the compiler should point at.
                quote_spanned! { ty.span() => <#ty as #home::state::State>::encode(#binding, __row); }
            })
            .collect()
    }

    /// Statements that prefetch the bound fields.
    fn prefetch(&self, fields: &[FieldShape]) -> TokenStream {
        let home = self.home;
        fields
            .iter()
            .map(|FieldShape { binding, ty, .. }| {
                quote_spanned! { ty.span() => <#ty as #home::state::State>::prefetch(#binding); }
            })
            .collect()
    }

    /// The fields of a struct expression, each decoded. Rust evaluates them in the order written: the encoded order.
    fn decode(&self, fields: &[FieldShape]) -> TokenStream {
        let home = self.home;
        fields
            .iter()
            .map(|FieldShape { member, ty, .. }| {
                let value = quote_spanned! { ty.span() => <#ty as #home::state::State>::decode(__row)? };
                quote! { #member: #value, }
            })
            .collect()
    }
}

impl Writer<'_> {
    /// The body of `describe_evolution`: what the types of the fields say, then what this type says, if anything.
    fn evolution(&self, shape: &Shape, migrations: &[Expr]) -> TokenStream {
        let home = self.home;
        let (within, fields, variants) = match shape {
            Shape::Struct(fields) => (
                self.within(fields),
                self.field_evolutions(None, fields),
                TokenStream::new(),
            ),
            Shape::Enum(variants) => (
                variants.iter().map(|variant| self.within(&variant.fields)).collect(),
                variants
                    .iter()
                    .map(|variant| self.field_evolutions(Some(&variant.name), &variant.fields))
                    .collect(),
                variants
                    .iter()
                    .filter(|variant| !variant.aliases.is_empty())
                    .map(|VariantShape { name, aliases, .. }| quote! { .variant(#name, &[#(#aliases),*]) })
                    .collect(),
            ),
        };
        let conversions: TokenStream = migrations
            .iter()
            .map(|function| quote_spanned! { function.span() => .conversion::<_, Self>(#function) })
            .collect();
        if fields.is_empty() && variants.is_empty() && conversions.is_empty() {
            return within;
        }
        quote! {
            #within
            let __type = #home::evolution::TypeEvolution::new(<Self as #home::state::State>::data_type());
            __evolution.declare(__type #fields #variants #conversions);
        }
    }

    fn within(&self, fields: &[FieldShape]) -> TokenStream {
        let home = self.home;
        fields
            .iter()
            .map(|FieldShape { ty, .. }| {
                quote_spanned! { ty.span() => <#ty as #home::state::State>::describe_evolution(__evolution); }
            })
            .collect()
    }

    fn field_evolutions(&self, variant: Option<&str>, fields: &[FieldShape]) -> TokenStream {
        let home = self.home;
        let variant = match variant {
            Some(name) => quote! { ::std::option::Option::Some(#name) },
            None => quote! { ::std::option::Option::None },
        };
        let says_something = |field: &&FieldShape| field.default.is_some() || !field.aliases.is_empty();
        fields
            .iter()
            .filter(says_something)
            .map(
                |FieldShape {
                     name,
                     aliases,
                     default,
                     ty,
                     ..
                 }| {
                    let default = match default {
                        None => quote! { ::std::option::Option::None },
                        Some(default) => {
                            let value = default_value(default, ty);
                            quote! { ::std::option::Option::Some(#home::state::to_row::<#ty>(&#value)) }
                        }
                    };
                    quote! { .field(#variant, #name, &[#(#aliases),*], #default) }
                },
            )
            .collect()
    }
}

/// An expression of the field's type. A literal text stands for anything that is made of one, so that a `String` can have it.
fn default_value(default: &DefaultValue, ty: &syn::Type) -> TokenStream {
    match default {
        DefaultValue::OfType => quote_spanned! { ty.span() => <#ty as ::std::default::Default>::default() },
        DefaultValue::Expression(value) => match &**value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text), ..
            }) => quote! { <#ty as ::std::convert::From<&str>>::from(#text) },
            value => quote_spanned! { value.span() => { let __default: #ty = #value; __default } },
        },
    }
}

/// A pattern that binds every field. Positions are legal there as well: `Self { 0: first }`.
fn pattern(fields: &[FieldShape]) -> TokenStream {
    fields
        .iter()
        .map(|FieldShape { member, binding, .. }| quote! { #member: #binding, })
        .collect()
}
