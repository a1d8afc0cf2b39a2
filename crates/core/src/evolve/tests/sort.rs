use super::*;

fn shown(metadata: &TableMetadata) -> Vec<String> {
    let schema = metadata.current_schema();
    let order = metadata.default_sort_order();
    let name = |id| schema.name_by_field_id(id).unwrap_or("?").to_string();
    let fields = order.fields.iter();
    fields
        .map(|f| format!("{}({}) {} nulls {}", f.transform, name(f.source_id), f.direction, f.null_order))
        .collect()
}

#[test]
fn an_order_is_set_replaced_used_again_and_removed() {
    let table = table();
    let sorted = evolve(
        &table,
        SortOrderUpdate::new([
            asc("name"),
            desc("point.lat"),
            asc(bucket("id", 4)).nulls_last(),
            desc(day("ts")).nulls_first(),
        ]),
    );
    assert_eq!(
        shown(&sorted),
        [
            "identity(name) ascending nulls first",
            "identity(point.lat) descending nulls last",
            "bucket[4](id) ascending nulls last",
            "day(ts) descending nulls first",
        ]
    );
    assert_eq!(sorted.default_sort_order().order_id, 1);
    let other = evolve(&sorted, SortOrderUpdate::new([asc("ID")]).case_sensitive(false));
    assert_eq!(other.default_sort_order().order_id, 2);
    let none = evolve(&other, SortOrderUpdate::unsorted());
    assert_eq!(**none.default_sort_order(), unsorted());
    let change = SortOrderUpdate::new([asc("id")]).apply(&none).unwrap();
    assert_eq!(change.updates, [TableUpdate::SetDefaultSortOrder { sort_order_id: 2 }]);
    assert!(
        change.requirements.contains(&TableRequirement::DefaultSortOrderIdMatch { default_sort_order_id: 0 })
    );
}

#[test]
fn a_table_made_with_an_order_can_lose_it() {
    let table = Fixture { sort: vec![asc("id")], ..Fixture::default() }.build();
    let none = evolve(&table, SortOrderUpdate::unsorted());
    assert!(none.default_sort_order().is_unsorted());
    assert_eq!(none.default_sort_order().order_id, 0);
}

#[test]
fn orders_that_break_a_rule_are_refused_by_name() {
    let cases = [
        (asc("missing"), "no such column"),
        (asc("point"), "primitive"),
        (asc("tags.element"), "list or map"),
        (asc(hour("day")), "date"),
    ];
    for (term, part) in cases {
        refused(&table(), SortOrderUpdate::new([term]), &[part]);
    }
    refused(&table(), SortOrderUpdate::new([asc("id"), desc("id")]), &["column: id", "once"]);
}
