//! Which build is measured.

use std::path::PathBuf;

use portcullis_bench::tools::Subject;

#[test]
fn figures_that_count_are_of_the_released_build_and_quick_ones_do_without_its_training() {
    assert!(matches!(Subject::new(None, false), Subject::Released));
    assert!(matches!(Subject::new(None, true), Subject::Untrained));
}

#[test]
fn a_program_that_is_given_is_measured_quick_or_not() {
    for quick in [false, true] {
        let subject = Subject::new(Some(PathBuf::from("some/portcullis")), quick);
        let program = subject.program(&mut |line| panic!("nothing to build: {line}")).unwrap();
        assert_eq!(program, std::env::current_dir().unwrap().join("some/portcullis"));
    }
}
