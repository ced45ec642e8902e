//! Lets the linker leave Node's own functions open: the process that loads the library has them.

fn main() {
    napi_build::setup();
}
