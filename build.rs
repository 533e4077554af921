//! Compiles the protobuf files of what only nodes say to each other, with pure Rust tools, so that building needs no
//! `protoc`; the public ones are compiled by `crates/liminal-wire`. Of both it writes down what decoding makes of requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use protox::prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const PUBLIC: &[&str] = &[
    "liminal/v1/broker.proto",
    "liminal/v1/admin.proto",
    "liminal/v1/claims.proto",
    "liminal/v1/consumers.proto",
    "liminal/v1/security.proto",
];
const PEERS: &[&str] = &["raft/v1/raft.proto", "peer/v1/broker.proto", "peer/v1/machine.proto"];
/// The message that stays encoded.
const ENCODED: &str = ".liminal.v1.MessageBatch";
/// What brokers say to each other. It comes encoded within another message and is decoded later, but counted with that one.
const BROKERS: [&str; 2] = [".liminal.peer.v1.Request", ".liminal.peer.v1.Response"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let (public, peers) = (protox::compile(PUBLIC, ["proto"])?, protox::compile(PEERS, ["proto"])?);
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("shapes.rs"), Shapes::of([&public, &peers]).generate()?)?;
    tonic_prost_build::configure().bytes(".").compile_fds(brokers_as_bytes(peers))?;
    Ok(())
}

/// The code for the connections between nodes hands on what brokers say as it came: bytes and a message look the same on the
/// wire.
fn brokers_as_bytes(mut files: FileDescriptorSet) -> FileDescriptorSet {
    let fields = files.file.iter_mut().flat_map(|file| &mut file.message_type).flat_map(|message| &mut message.field);
    for field in fields.filter(|field| BROKERS.contains(&field.type_name())) {
        field.set_type(Type::Bytes);
        field.type_name = None;
    }
    files
}

/// What the methods' requests, and what brokers say to each other, are made of, for `src/proto/shapes.rs`.
struct Shapes<'a> {
    /// By full name, with a dot in front.
    messages: BTreeMap<String, &'a DescriptorProto>,
    /// Paths, each with its request's name; and what brokers say to each other, by its own names.
    methods: BTreeMap<String, String>,
}

impl<'a> Shapes<'a> {
    fn of(sets: [&'a FileDescriptorSet; 2]) -> Self {
        let (mut messages, mut methods) = (BTreeMap::new(), BTreeMap::new());
        for file in sets.into_iter().flat_map(|set| &set.file) {
            for message in &file.message_type {
                assert!(
                    message.nested_type.is_empty(),
                    "{}: messages within messages are not followed",
                    message.name()
                );
                messages.insert(format!(".{}.{}", file.package(), message.name()), message);
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.insert(path, method.input_type().to_owned());
                }
            }
        }
        methods.extend(BROKERS.map(|name| (name.to_owned(), name.to_owned())));
        Self { messages, methods }
    }

    /// The message that decoding makes of a field. A batch stays encoded, as bytes: see the build script of
    /// `crates/liminal-wire`.
    fn within(field: &FieldDescriptorProto) -> Option<&str> {
        (field.r#type() == Type::Message).then(|| field.type_name()).filter(|name| *name != ENCODED)
    }

    /// Bytes that one field takes in the message that it is of: rather more than too few.
    fn bytes_in_place(&self, field: &FieldDescriptorProto) -> usize {
        if field.label() == Label::Repeated { 24 } else { self.bytes_of_one(field) }
    }

    fn bytes_of_one(&self, field: &FieldDescriptorProto) -> usize {
        match Self::within(field) {
            Some(name) => 8 + self.messages[name].field.iter().map(|f| self.bytes_in_place(f)).sum::<usize>(),
            None if is_text(field) => 32,
            None => 16,
        }
    }

    /// Whether a message has something repeated in it.
    fn repeats(&self, name: &str) -> bool {
        let within = |field| Self::within(field).is_some_and(|name| self.repeats(name));
        self.messages[name].field.iter().any(|field| field.label() == Label::Repeated || within(field))
    }

    /// Those messages of a request that have something repeated in them, and the request.
    fn reach<'n>(&'n self, name: &'n str, reached: &mut BTreeSet<&'n str>) {
        if reached.insert(name) {
            let within = self.messages[name].field.iter().filter_map(Self::within);
            within.filter(|name| self.repeats(name)).for_each(|name| self.reach(name, reached));
        }
    }

    fn generate(&self) -> Result<String, Box<dyn Error>> {
        let mut code = String::new();
        let id = |name: &str| name.replace('.', "_").to_uppercase();
        let mut reached = BTreeSet::new();
        self.methods.values().for_each(|request| self.reach(request, &mut reached));
        for name in reached {
            let message = self.messages[name];
            writeln!(code, "static SHAPE{}: Shape = Shape {{ fields: &[", id(name))?;
            for field in &message.field {
                let repeated = field.label() == Label::Repeated;
                let of = Self::within(field).filter(|name| self.repeats(name));
                if !repeated && of.is_none() {
                    continue;
                }
                let bytes = if repeated { self.bytes_of_one(field) } else { 0 };
                let packed = repeated && Self::within(field).is_none() && !is_text(field);
                let of = of.map_or("None".to_owned(), |name| format!("Some(&SHAPE{})", id(name)));
                let number = field.number();
                writeln!(code, "    Field {{ number: {number}, bytes: {bytes}, packed: {packed}, of: {of} }},")?;
            }
            writeln!(code, "] }};")?;
        }
        // Sorted, as a map is.
        writeln!(code, "static METHODS: &[(&str, &Shape)] = &[")?;
        for (path, request) in &self.methods {
            writeln!(code, "    ({path:?}, &SHAPE{}),", id(request))?;
        }
        writeln!(code, "];")?;
        Ok(code)
    }
}

/// Whether its bytes are what decoding makes of it.
fn is_text(field: &FieldDescriptorProto) -> bool {
    matches!(field.r#type(), Type::String | Type::Bytes) || field.type_name() == ENCODED
}
