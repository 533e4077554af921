//! A compiler that compiles nothing, in place of Cranelift.
//!
//! haematite runs its shards as native processes of an actor runtime (`beamr`), which can also run bytecode and compile it
//! while it runs. haematite switches that on with the runtime's default features, and so every build of liminal compiled a
//! compiler of 17 packages. No bytecode is ever loaded into a node. Here are the names that the
//! runtime calls, and nothing behind them: a compiler can be made, and the first thing that is asked of it, to declare a
//! function, it refuses; the runtime then goes on with its interpreter, if it had anything to interpret. What would come
//! after that is never reached.
//!
//! Together with `cranelift-frontend`, `-jit`, `-module` and `-native`, which hand these names on, this package goes when
//! a version of haematite lets the runtime's default features be switched off.

#![forbid(unsafe_code)]
#![allow(clippy::wrong_self_convention, clippy::should_implement_trait)]

use std::fmt;

/// Why nothing was compiled.
#[derive(Debug)]
pub enum CodegenError {
    /// Never: nothing is verified.
    Verifier(Nothing),
    /// Always.
    Unsupported(String),
}

impl fmt::Display for CodegenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no compiler is built in")
    }
}

impl std::error::Error for CodegenError {}

/// What there is none of.
#[derive(Debug)]
pub enum Nothing {}

impl fmt::Display for Nothing {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// A function that would be compiled.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The function.
    pub func: ir::Function,
}

/// What a function would be made of.
pub mod ir {
    macro_rules! entities {
        ($($name:ident)+) => {
            $(
                /// A number.
                #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
                pub struct $name(u32);

                impl $name {
                    /// That number.
                    pub fn from_u32(number: u32) -> Self {
                        Self(number)
                    }

                    /// As a number.
                    pub fn as_u32(self) -> u32 {
                        self.0
                    }
                }
            )+
        };
    }

    entities! { Block Value Inst FuncRef StackSlot Type }

    /// An argument of a block.
    #[derive(Clone, Copy, Debug)]
    pub struct BlockArg;

    impl From<Value> for BlockArg {
        fn from(_: Value) -> Self {
            Self
        }
    }

    /// A function.
    #[derive(Clone, Debug, Default)]
    pub struct Function {
        /// What it takes and gives.
        pub signature: Signature,
    }

    /// What a function takes and gives.
    #[derive(Clone, Debug, Default)]
    pub struct Signature {
        /// What it takes.
        pub params: Vec<AbiParam>,
        /// What it gives.
        pub returns: Vec<AbiParam>,
    }

    /// Something that a function takes or gives.
    #[derive(Clone, Copy, Debug)]
    pub struct AbiParam;

    impl AbiParam {
        /// Of a type.
        pub fn new(_: Type) -> Self {
            Self
        }
    }

    /// How memory is looked at.
    #[derive(Clone, Copy, Debug)]
    pub struct MemFlagsData;

    impl MemFlagsData {
        /// Carefully.
        pub fn new() -> Self {
            Self
        }

        /// Without a check.
        pub fn trusted() -> Self {
            Self
        }
    }

    impl Default for MemFlagsData {
        fn default() -> Self {
            Self
        }
    }

    /// What a part of the stack is for.
    #[derive(Clone, Copy, Debug)]
    pub enum StackSlotKind {
        /// Whatever the function likes.
        ExplicitSlot,
    }

    /// A part of the stack.
    #[derive(Clone, Copy, Debug)]
    pub struct StackSlotData;

    impl StackSlotData {
        /// Of a kind, a size and an alignment.
        pub fn new(_: StackSlotKind, _: u32, _: u8) -> Self {
            Self
        }
    }

    /// Types.
    pub mod types {
        use super::Type;

        /// A byte.
        pub const I8: Type = Type(1);
        /// A word.
        pub const I64: Type = Type(2);
        /// A number with a fraction.
        pub const F64: Type = Type(3);
    }

    /// How values are compared.
    pub mod condcodes {
        /// Whole numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum IntCC {
            Equal,
            NotEqual,
            SignedLessThan,
            SignedGreaterThanOrEqual,
            SignedGreaterThan,
            SignedLessThanOrEqual,
            UnsignedLessThan,
            UnsignedGreaterThanOrEqual,
            UnsignedGreaterThan,
            UnsignedLessThanOrEqual,
        }

        /// Numbers with a fraction.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum FloatCC {
            Ordered,
            Unordered,
            Equal,
            NotEqual,
            LessThan,
            LessThanOrEqual,
            GreaterThan,
            GreaterThanOrEqual,
        }
    }

    use condcodes::{FloatCC, IntCC};

    macro_rules! instructions {
        ($($name:ident $(<$generic:ident>)? ($($argument:ty),*) -> $result:ty;)+) => {
            /// Puts instructions behind each other.
            pub trait InstBuilder: Sized {
                $(
                    /// Puts none.
                    fn $name $(<$generic>)? (self $(, _: $argument)*) -> $result {
                        <$result>::default()
                    }
                )+
            }
        };
    }

    instructions! {
        band(Value, Value) -> Value;
        band_imm_s<T>(Value, T) -> Value;
        bitcast(Type, MemFlagsData, Value) -> Value;
        bor(Value, Value) -> Value;
        bor_imm_s<T>(Value, T) -> Value;
        brif(Value, Block, &[BlockArg], Block, &[BlockArg]) -> Inst;
        bxor(Value, Value) -> Value;
        call(FuncRef, &[Value]) -> Inst;
        f64const(f64) -> Value;
        fadd(Value, Value) -> Value;
        fcmp(FloatCC, Value, Value) -> Value;
        fcvt_from_sint(Type, Value) -> Value;
        fdiv(Value, Value) -> Value;
        fmul(Value, Value) -> Value;
        fneg(Value) -> Value;
        fsub(Value, Value) -> Value;
        iadd(Value, Value) -> Value;
        icmp(IntCC, Value, Value) -> Value;
        icmp_imm_s<T>(IntCC, Value, T) -> Value;
        iconst<T>(Type, T) -> Value;
        ishl_imm_s<T>(Value, T) -> Value;
        isub(Value, Value) -> Value;
        jump(Block, &[BlockArg]) -> Inst;
        load<T>(Type, MemFlagsData, Value, T) -> Value;
        return_(&[Value]) -> Inst;
        sdiv(Value, Value) -> Value;
        smul_overflow(Value, Value) -> (Value, Value);
        srem(Value, Value) -> Value;
        sshr_imm_s<T>(Value, T) -> Value;
        stack_addr<T>(Type, StackSlot, T) -> Value;
        store<T>(MemFlagsData, Value, Value, T) -> Inst;
        ushr_imm_s<T>(Value, T) -> Value;
    }
}

/// How code would be made.
pub mod settings {
    /// Collects settings.
    #[derive(Clone, Debug)]
    pub struct Builder;

    /// A collection of none.
    pub fn builder() -> Builder {
        Builder
    }

    /// What can be set.
    pub trait Configurable {
        /// Sets something.
        ///
        /// # Errors
        /// Never.
        fn set(&mut self, name: &str, value: &str) -> Result<(), super::CodegenError>;
    }

    impl Configurable for Builder {
        fn set(&mut self, _: &str, _: &str) -> Result<(), super::CodegenError> {
            Ok(())
        }
    }

    /// The settings.
    #[derive(Clone, Debug)]
    pub struct Flags;

    impl Flags {
        /// That were collected.
        pub fn new(_: Builder) -> Self {
            Self
        }
    }
}

/// What the other packages hand on.
pub mod parts {
    /// As `cranelift_frontend`.
    pub mod frontend {
        use std::marker::PhantomData;

        use crate::{
            ir::{Block, Function, Inst, InstBuilder, StackSlot, StackSlotData, Type, Value},
            parts::native::Frontend,
        };

        /// What is kept from function to function.
        #[derive(Debug, Default)]
        pub struct FunctionBuilderContext;

        impl FunctionBuilderContext {
            /// Nothing.
            pub fn new() -> Self {
                Self
            }
        }

        /// Builds a function.
        #[derive(Debug)]
        pub struct FunctionBuilder<'a>(PhantomData<&'a mut Function>);

        /// The end of a block.
        #[derive(Debug)]
        pub struct End<'a>(PhantomData<&'a mut ()>);

        impl InstBuilder for End<'_> {}

        /// More than any instruction has.
        const VALUES: &[Value] = &[];

        impl<'a> FunctionBuilder<'a> {
            /// Of a function.
            pub fn new(_: &'a mut Function, _: &'a mut FunctionBuilderContext) -> Self {
                Self(PhantomData)
            }

            /// Another block.
            pub fn create_block(&mut self) -> Block {
                Block::default()
            }

            /// Goes on there.
            pub fn switch_to_block(&mut self, _: Block) {}

            /// Where it goes on.
            pub fn current_block(&self) -> Option<Block> {
                None
            }

            /// The end of the block.
            pub fn ins(&mut self) -> End<'_> {
                End(PhantomData)
            }

            /// What an instruction gives.
            pub fn inst_results(&self, _: Inst) -> &[Value] {
                VALUES
            }

            /// What a block takes.
            pub fn block_params(&self, _: Block) -> &[Value] {
                VALUES
            }

            /// A block takes one thing more.
            pub fn append_block_param(&mut self, _: Block, _: Type) -> Value {
                Value::default()
            }

            /// A block takes what the function takes.
            pub fn append_block_params_for_function_params(&mut self, _: Block) {}

            /// A part of the stack.
            pub fn create_sized_stack_slot(&mut self, _: StackSlotData) -> StackSlot {
                StackSlot::default()
            }

            /// No more ways lead into any block.
            pub fn seal_all_blocks(&mut self) {}

            /// The function is built.
            pub fn finalize(self, _: Frontend) {}
        }
    }

    /// As `cranelift_native`.
    pub mod native {
        use crate::{CodegenError, settings::Flags};

        /// What a machine needs to know of itself to compile.
        #[derive(Clone, Copy, Debug)]
        pub struct Frontend;

        /// The machine.
        #[derive(Clone, Debug)]
        pub struct Isa;

        impl Isa {
            /// What it needs to know of itself.
            pub fn frontend_config(&self) -> Frontend {
                Frontend
            }
        }

        /// Looks at the machine.
        #[derive(Clone, Debug)]
        pub struct Builder;

        impl Builder {
            /// The machine.
            ///
            /// # Errors
            /// Never.
            pub fn finish(self, _: Flags) -> Result<Isa, CodegenError> {
                Ok(Isa)
            }
        }

        /// Looks at this machine.
        ///
        /// # Errors
        /// Never.
        pub fn builder() -> Result<Builder, &'static str> {
            Ok(Builder)
        }
    }

    /// As `cranelift_module`.
    pub mod module {
        use std::fmt;

        use crate::{
            CodegenError, Context,
            ir::{FuncRef, Function, Signature},
            parts::native::Isa,
        };

        /// Why a module did not take a function.
        #[derive(Debug)]
        pub enum ModuleError {
            /// It could not be compiled.
            Compilation(CodegenError),
            /// It was not declared.
            Undeclared(String),
        }

        impl fmt::Display for ModuleError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("no compiler is built in")
            }
        }

        impl std::error::Error for ModuleError {}

        /// Where a function is.
        #[derive(Clone, Copy, Debug)]
        pub enum Linkage {
            /// Elsewhere.
            Import,
            /// Here.
            Local,
        }

        /// A function.
        #[derive(Clone, Copy, Debug)]
        pub struct FuncId;

        /// How the names of library functions are found.
        pub type Names = fn() -> String;

        /// They are not.
        pub fn default_libcall_names() -> Names {
            String::new
        }

        /// Functions together.
        pub trait Module {
            /// The machine.
            fn isa(&self) -> &Isa;

            /// An empty signature.
            fn make_signature(&self) -> Signature {
                Signature::default()
            }

            /// An empty function.
            fn make_context(&self) -> Context {
                Context::default()
            }

            /// Empties a function.
            fn clear_context(&self, _: &mut Context) {}

            /// Refuses a function.
            ///
            /// # Errors
            /// Always: this is where it ends.
            fn declare_function(&mut self, _: &str, _: Linkage, _: &Signature) -> Result<FuncId, ModuleError> {
                Err(ModuleError::Undeclared("no compiler is built in".to_owned()))
            }

            /// Lets a function call another one.
            fn declare_func_in_func(&mut self, _: FuncId, _: &mut Function) -> FuncRef {
                FuncRef::default()
            }

            /// Refuses a function.
            ///
            /// # Errors
            /// Always.
            fn define_function(&mut self, _: FuncId, _: &mut Context) -> Result<(), ModuleError> {
                Err(ModuleError::Compilation(CodegenError::Unsupported(String::new())))
            }
        }
    }

    /// As `cranelift_jit`.
    pub mod jit {
        use crate::parts::{
            module::{FuncId, Module, ModuleError, Names},
            native::Isa,
        };

        /// Collects what functions may call.
        #[derive(Debug)]
        pub struct JITBuilder(Isa);

        impl JITBuilder {
            /// Of a machine.
            pub fn with_isa(isa: Isa, _: Names) -> Self {
                Self(isa)
            }

            /// They may call this.
            pub fn symbol<K: Into<String>>(&mut self, _: K, _: *const u8) -> &mut Self {
                self
            }
        }

        /// Functions in memory.
        #[derive(Debug)]
        pub struct JITModule(Isa);

        impl JITModule {
            /// None.
            pub fn new(builder: JITBuilder) -> Self {
                Self(builder.0)
            }

            /// Makes them callable.
            ///
            /// # Errors
            /// Always: there are none.
            pub fn finalize_definitions(&mut self) -> Result<(), ModuleError> {
                Err(ModuleError::Undeclared("no compiler is built in".to_owned()))
            }

            /// Where a function is: nowhere.
            pub fn get_finalized_function(&self, _: FuncId) -> *const u8 {
                std::ptr::null()
            }
        }

        impl Module for JITModule {
            fn isa(&self) -> &Isa {
                &self.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ir::Signature,
        parts::{
            jit::{JITBuilder, JITModule},
            module::{Linkage, Module as _, default_libcall_names},
            native,
        },
        settings::{self, Configurable as _},
    };

    #[test]
    fn a_compiler_can_be_made_and_takes_no_function() {
        let mut settings = settings::builder();
        settings.set("is_pic", "false").unwrap();
        let isa = native::builder().unwrap().finish(settings::Flags::new(settings)).unwrap();
        let mut module = JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()));
        assert!(module.declare_function("any", Linkage::Local, &Signature::default()).is_err());
    }
}
