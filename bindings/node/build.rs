//! Tells the linker that Node provides its own functions when it loads the library.

fn main() {
    napi_build::setup();
}
