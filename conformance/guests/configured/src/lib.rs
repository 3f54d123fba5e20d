//! Logs what it is configured with: sizes, bytes, the variable `PLACE` of its environment. It refuses the configuration `refuse`.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default)]
struct Root {
    text: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, size: usize) -> bool {
        let place = std::env::var("PLACE");
        say(&format!(
            "vm configuration of {size} bytes, {:?}, place {place:?}",
            self.get_vm_configuration()
        ));
        true
    }

    fn on_configure(&mut self, size: usize) -> bool {
        let configuration = self.get_plugin_configuration();
        say(&format!("configuration of {size} bytes"));
        self.text = String::from_utf8_lossy(&configuration.unwrap_or_default()).into_owned();
        say(&self.text);
        self.text != "refuse"
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        say(&format!("a stream of {:?}", self.text));
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {}

fn say(text: &str) {
    let _said = hostcalls::log(LogLevel::Info, text);
}
