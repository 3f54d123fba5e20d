//! `portcullis check`, as people and programs see it: whole folders and everything that is printed, byte for byte.

use super::golden::transcript;

#[test]
fn five_problems_of_five_sorts_are_all_reported_at_once() {
    transcript("check/five-problems");
}

#[test]
fn a_good_folder_is_fine_in_one_line() {
    transcript("check/fine");
}

#[test]
fn warnings_are_fatal_only_when_asked() {
    transcript("check/warnings");
}

#[test]
fn a_process_needs_one_proxy_document() {
    transcript("check/which-proxy");
}

#[test]
fn every_way_in_which_a_module_can_be_wrong_is_told_apart() {
    transcript("check/modules");
}

#[test]
fn certificates_are_read_and_tried() {
    transcript("check/tls");
}

#[test]
fn a_secret_outside_of_a_cluster_is_a_folder_and_what_is_wrong_with_references_is_told() {
    transcript("check/secrets");
}

#[test]
fn a_rehearsal_shows_what_a_filter_refuses() {
    transcript("check/rehearse");
}

#[test]
fn the_newcomer_of_two_objects_with_one_name_is_refused() {
    transcript("check/twice");
}

#[test]
fn what_is_wrong_inside_routes_is_found_by_meaning() {
    transcript("check/routes");
}

#[test]
fn what_is_missing_on_disk_is_named() {
    transcript("check/absent");
}

#[test]
fn references_that_lead_nowhere_say_what_was_meant() {
    transcript("check/references");
}

#[test]
fn what_would_silently_not_do_what_it_says_is_told() {
    transcript("check/careless");
}

#[test]
fn what_would_be_in_vain_is_told() {
    transcript("check/in-vain");
}

#[test]
fn what_does_not_fit_a_listener_is_told_and_not_attached() {
    transcript("check/network");
}

#[test]
fn what_is_wrong_with_registries_is_found_before_anything_is_fetched() {
    transcript("check/registries");
}

#[test]
fn what_is_wrong_with_keys_and_signatures_is_told() {
    transcript("check/keys");
}
