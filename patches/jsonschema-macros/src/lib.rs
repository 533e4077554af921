//! Nothing, in place of macros that nobody here uses. jsonschema's feature `arbitrary-precision` names them as an option of
//! an option, so Cargo wants to know a version of them, though it builds none; and not every registry that has jsonschema
//! 0.61.2 has the macros of the same version.
