//! Names the shared library for the linker of its users.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The number changes when programs must be compiled again.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libsyncline.so.0");
    // Its progress thread may be running when a plugin that uses it is unloaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
