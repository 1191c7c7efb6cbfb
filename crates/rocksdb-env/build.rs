//! Compiles the environment as librocksdb-sys compiles RocksDB: with its headers, by the same compiler, for the same C++.

fn main() {
    println!("cargo:rerun-if-changed=src/environment.cc");
    #[cfg(feature = "rocksdb")]
    compile();
}

#[cfg(feature = "rocksdb")]
fn compile() {
    use std::env;

    for variable in ["ROCKSDB_INCLUDE_DIR", "ROCKSDB_CXX_STD"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let headers = env::var("ROCKSDB_INCLUDE_DIR").unwrap_or_else(|_bundled| {
        let root = env::var("DEP_ROCKSDB_CARGO_MANIFEST_DIR").expect("librocksdb-sys says where it is");
        format!("{root}/rocksdb/include")
    });
    let standard = env::var("ROCKSDB_CXX_STD").unwrap_or_else(|_default| "c++20".to_owned());
    cc::Build::new()
        .cpp(true)
        .flag(format!("-std={}", standard.trim_start_matches("-std=")))
        .flag("-isystem")
        .flag(headers)
        .flag("-include")
        .flag("cstdint")
        .define("NDEBUG", "1")
        .file("src/environment.cc")
        .compile("streamd_rocksdb_env");
}
