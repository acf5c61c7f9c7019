use evenkeel::*;
use std::time::Instant;
fn time(name: &str, n: usize, mut f: impl FnMut()) { let mut best=f64::MAX; for _ in 0..30 { let t=Instant::now(); for _ in 0..10 {f();} best=best.min(t.elapsed().as_secs_f64()/10.0);} println!("{name:40} {:.3} ns/el", best/n as f64*1e9); }
fn main(){
  for lv in simd::Level::ALL { simd::with_level(lv, || {
    println!("--- {lv}");
    for (r,c) in [(8usize,4096usize),(1024,4096)] {
    if lv==simd::Level::Portable && r>8 {continue}
    let x: Vec<f32> = (0..r*c).map(|i| ((i as f32*0.7310585).sin()*8.0)).collect();
    let mut out = vec![0f32; r*c];
    time("memcpy", r*c, || out.copy_from_slice(std::hint::black_box(&x)));
    time("softmax f32", r*c, || {softmax_into(Rows::new(&x,r,c).unwrap(), RowsMut::new(&mut out,r,c).unwrap(), &Softmax::default()).unwrap();});
    time("log_softmax f32", r*c, || {log_softmax_into(Rows::new(&x,r,c).unwrap(), RowsMut::new(&mut out,r,c).unwrap(), &Softmax::default()).unwrap();});
    let xb: Vec<half::bf16> = x.iter().map(|v| half::bf16::from_f32(*v)).collect(); let mut ob=xb.clone();
    time("softmax bf16", r*c, || {softmax_into(Rows::new(&xb,r,c).unwrap(), RowsMut::new(&mut ob,r,c).unwrap(), &Softmax::default()).unwrap();});
    let xh: Vec<half::f16> = x.iter().map(|v| half::f16::from_f32(*v)).collect(); let mut oh=xh.clone();
    time("softmax f16", r*c, || {softmax_into(Rows::new(&xh,r,c).unwrap(), RowsMut::new(&mut oh,r,c).unwrap(), &Softmax::default()).unwrap();});
    let w=vec![1.5f32;c]; let b=vec![0.5f32;c];
    time("rms_norm f32", r*c, || {rms_norm_into(Rows::new(&x,r,c).unwrap(), RowsMut::new(&mut out,r,c).unwrap(), &RmsNorm::default().weight(&w)).unwrap();});
    time("rms_norm bf16", r*c, || {rms_norm_into(Rows::new(&xb,r,c).unwrap(), RowsMut::new(&mut ob,r,c).unwrap(), &RmsNorm::default().weight(&w)).unwrap();});
    time("layer_norm f32", r*c, || {layer_norm_into(Rows::new(&x,r,c).unwrap(), RowsMut::new(&mut out,r,c).unwrap(), &LayerNorm::default().weight(&w).bias(&b)).unwrap();});
    time("exp f32", r*c, || {exp_into(&x, &mut out).unwrap();});
    time("log f32", r*c, || {log_into(&x, &mut out).unwrap();});
    time("sigmoid f32", r*c, || {sigmoid_into(&x, &mut out).unwrap();});
    time("silu f32", r*c, || {silu_into(&x, &mut out).unwrap();});
    time("silu bf16", r*c, || {silu_into(&xb, &mut ob).unwrap();});
    let x64: Vec<f64> = x.iter().map(|v| *v as f64).collect(); let mut o64=x64.clone();
    time("softmax f64", r*c, || {softmax_into(Rows::new(&x64,r,c).unwrap(), RowsMut::new(&mut o64,r,c).unwrap(), &Softmax::default()).unwrap();});
    time("exp f64", r*c, || {exp_into(&x64, &mut o64).unwrap();});
    let t=RopeTable::new(&(0..c as i64/128).collect::<Vec<_>>(),128,&Rope::default()).unwrap();
    time("rope f32", r*c, || {rope_into(Rows::new(&x,r*c/128,128).unwrap(), RowsMut::new(&mut out,r*c/128,128).unwrap(), &t).unwrap();});
    }
  }).ok(); }
}
