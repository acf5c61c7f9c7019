mod items;

fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let functions = ["fn sample", "fn output_contains_tool_call_start", "fn is_nested_tool_call_start"];
    let functions = items::items("../src/openai/pipelines/pipeline.rs", &functions);
    std::fs::write(format!("{out}/pipeline.rs"), format!("impl DefaultPipeline {{\n{functions}}}\n")).unwrap();
    let block = ["struct LogicalTokenBlock", "impl LogicalTokenBlock"];
    let block = items::items("../src/scheduler/block_engine.rs", &block);
    std::fs::write(format!("{out}/block_engine.rs"), block).unwrap();
}
