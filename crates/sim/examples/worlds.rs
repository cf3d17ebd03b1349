use holm_sim::world::{Plan, Scope, run};
fn main() {
    let mut args = std::env::args().skip(1);
    let from: u64 = args.next().unwrap().parse().unwrap();
    let to: u64 = args.next().unwrap().parse().unwrap();
    let start = std::time::Instant::now();
    let (mut steps, mut us, mut committed, mut compared, mut images, mut changes) =
        (0, 0, 0, 0, 0, 0);
    let mut failed = 0;
    std::panic::set_hook(Box::new(|_| {}));
    for seed in from..to {
        let plan = Plan::draw(seed, &Scope::default());
        match run(&plan, false) {
            Ok(s) => {
                steps += s.counts.steps;
                us += s.virtual_us;
                committed += s.ends.committed;
                compared += s.compared;
                images += s.counts.images;
                changes += s.counts.changes;
            }
            Err(f) => {
                failed += 1;
                println!("{plan}\n   {}", &f.what[..f.what.len().min(300)]);
            }
        }
    }
    let real = start.elapsed().as_secs_f64();
    println!(
        "{} seeds, {failed} failed; {steps} steps, {:.1} virtual s in {real:.1} s: {:.0}x, {:.0} steps/s; committed {committed} compared {compared} images {images} changes {changes}",
        to - from,
        us as f64 / 1e6,
        us as f64 / 1e6 / real,
        steps as f64 / real
    );
}
