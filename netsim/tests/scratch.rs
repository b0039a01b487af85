#![allow(missing_docs)]
use tern_netsim::figures::*;
#[test]
fn gap() {
    let rtt = 100.0;
    println!("{:?}", starts(rtt, 3));
    println!("{:?}", handovers(rtt, 3));
    for g in [2.0, 5.0, 10.0, 25.0, 45.0] {
        println!("{:?}", gaps(rtt, g, 10));
    }
}
#[test]
fn late_ones() {
    println!("{:?}", late(100.0, 0.02, &Default::default(), 3));
}
