import java.io.InputStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import org.apache.iceberg.*;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.encryption.BaseEncryptedKey;
import org.apache.iceberg.expressions.Expressions;
import org.apache.iceberg.expressions.Literal;
import org.apache.iceberg.inmemory.InMemoryCatalog;
import org.apache.iceberg.types.EdgeAlgorithm;
import org.apache.iceberg.types.Type;
import org.apache.iceberg.types.Types;
import org.apache.iceberg.types.Types.NestedField;

/**
 * Writes the files java-*.metadata.json with Iceberg Java: java -cp CLASSPATH WriteMetadata TO
 *
 * Data files are only named: nothing reads them. Each table goes through a life of its own; {@code keep} copies the metadata
 * file that it has at that moment.
 */
public class WriteMetadata {
  static final InMemoryCatalog CATALOG = new InMemoryCatalog();
  static Path to;
  static int files = 0;

  public static void main(String[] args) throws Exception {
    to = Path.of(args[0]);
    CATALOG.initialize("memory", Map.of(CatalogProperties.WAREHOUSE_LOCATION, "file:///warehouse"));
    CATALOG.createNamespace(Namespace.of("db"));
    version1();
    for (int version = 2; version <= 3; version++) everyType(version);
    defaults();
    transforms();
    history();
    keys();
    statistics();
    replaced();
    upgraded();
    branches();
    names();
  }

  static NestedField of(int id, String name, Type type) { return NestedField.optional(id, name, type); }

  static Table create(String name, Schema schema, PartitionSpec spec, SortOrder order, Map<String, String> properties) {
    return CATALOG.buildTable(TableIdentifier.of("db", name), schema).withPartitionSpec(spec).withSortOrder(order)
        .withProperties(properties).create();
  }

  static Table create(String name, Schema schema, int version) {
    return create(name, schema, PartitionSpec.unpartitioned(), SortOrder.unsorted(), Map.of("format-version", "" + version));
  }

  static TableOperations operations(Table t) { return ((HasTableOperations) t).operations(); }

  static void keep(Table t, String name) throws Exception {
    try (InputStream in = t.io().newInputFile(operations(t).refresh().metadataFileLocation()).newStream()) {
      Files.writeString(to.resolve("java-" + name + ".metadata.json"), new String(in.readAllBytes(), StandardCharsets.UTF_8));
    }
  }

  static final String NULL = "__HIVE_DEFAULT_PARTITION__";

  static DataFile file(Table t, String... partition) {
    DataFiles.Builder file = DataFiles.builder(t.spec()).withPath(t.location() + "/data/" + files++ + ".parquet")
        .withFormat(FileFormat.PARQUET).withFileSizeInBytes(1000).withRecordCount(10);
    return (partition.length == 0 ? file : file.withPartitionValues(List.of(partition))).build();
  }

  static void append(Table t, int times) {
    for (int i = 0; i < times; i++) t.newAppend().appendFile(file(t)).commit();
  }

  static void version1() throws Exception {
    Schema schema = new Schema(NestedField.required(1, "id", Types.LongType.get()), of(2, "a", Types.StringType.get()),
        of(3, "b", Types.DateType.get()), of(4, "c", Types.DecimalType.of(9, 2)));
    PartitionSpec spec = PartitionSpec.builderFor(schema).alwaysNull("a", "nothing").identity("a").day("b", "day of b").bucket("id", 4).build();
    SortOrder order = SortOrder.builderFor(schema).asc("id", NullOrder.NULLS_LAST).desc(Expressions.truncate("a", 3), NullOrder.NULLS_FIRST).build();
    Table t = create("v1", schema, spec, order, Map.of("format-version", "1", "commit.retry.num-retries", "2"));
    keep(t, "v1-new");
    t.newAppend().appendFile(file(t, NULL, "x", "2024-01-01", "1")).set("by", "hand").commit();
    t.updateSpec().removeField("a").removeField("id_bucket").commit();
    t.updateSpec().addField("a_again", Expressions.ref("a")).renameField("day of b", "day").commit();
    t.updateSchema().renameColumn("c", "sum").updateColumn("c", Types.DecimalType.of(18, 2)).addColumn("d", Types.TimestampType.withZone(), "when").commit();
    t.newFastAppend().appendFile(file(t, NULL, NULL, "2024-01-02", NULL, "y")).commit();
    t.replaceSortOrder().asc("d").commit();
    t.newDelete().deleteFromRowFilter(Expressions.alwaysTrue()).commit();
    keep(t, "v1-void-and-renamed-fields");
    t.updateSpec().removeField("a_again").removeField("day").commit();
    t.updateSchema().deleteColumn("a").commit();
    t.newAppend().commit();
    keep(t, "v1-source-columns-gone");
  }

  static Schema allTypes(int version) {
    List<NestedField> columns = new ArrayList<>(List.of(NestedField.required(1, "id", Types.LongType.get()),
        NestedField.required(2, "flag", Types.BooleanType.get()), of(3, "int", Types.IntegerType.get()), of(4, "float", Types.FloatType.get()),
        of(5, "double", Types.DoubleType.get()), of(6, "small", Types.DecimalType.of(9, 2)), of(7, "large", Types.DecimalType.of(38, 0)),
        of(8, "date", Types.DateType.get()), of(9, "time", Types.TimeType.get()), of(10, "ts", Types.TimestampType.withoutZone()),
        of(11, "tz", Types.TimestampType.withZone()), of(12, "text", Types.StringType.get()), of(13, "uuid", Types.UUIDType.get()),
        of(14, "fixed", Types.FixedType.ofLength(16)), of(15, "bytes", Types.BinaryType.get()),
        NestedField.required("st").withId(16).withDoc("a struct").ofType(Types.StructType.of(
            NestedField.required("key").withId(20).withDoc("nested key").ofType(Types.IntegerType.get()).build(),
            of(21, "deep", Types.StructType.of(of(22, "l", Types.ListType.ofRequired(23, Types.DateType.get())))))).build(),
        of(17, "list", Types.ListType.ofOptional(24, Types.ListType.ofRequired(25, Types.LongType.get()))),
        of(18, "map", Types.MapType.ofRequired(26, 27, Types.StructType.of(NestedField.required(28, "x", Types.IntegerType.get())),
            Types.StructType.of(of(29, "y", Types.UUIDType.get()), of(30, "z", Types.MapType.ofOptional(31, 32, Types.StringType.get(), Types.FixedType.ofLength(3))))))));
    if (version == 3) {
      columns.addAll(List.of(of(40, "ns", Types.TimestampNanoType.withoutZone()), of(41, "nstz", Types.TimestampNanoType.withZone()),
          of(42, "variant", Types.VariantType.get()), of(43, "unknown", Types.UnknownType.get()), of(44, "point", Types.GeometryType.crs84()),
          of(45, "plan", Types.GeometryType.of("srid:3857")), of(46, "route", Types.GeographyType.crs84()),
          of(47, "sphere", Types.GeographyType.of("srid:4269", EdgeAlgorithm.KARNEY)),
          of(48, "variants", Types.ListType.ofOptional(49, Types.VariantType.get())),
          of(50, "places", Types.MapType.ofOptional(51, 52, Types.StringType.get(), Types.StructType.of(of(53, "at", Types.GeometryType.of("OGC:CRS27")), of(54, "n", Types.UnknownType.get()))))));
    }
    return new Schema(7, columns, Map.of(), Set.of(1, 20));
  }

  static void everyType(int version) throws Exception {
    Schema schema = allTypes(version);
    PartitionSpec spec = PartitionSpec.builderFor(schema).withSpecId(5).identity("small").bucket("uuid", 16).truncate("st.key", 10).build();
    SortOrder order = SortOrder.builderFor(schema).withOrderId(3).asc("st.key").desc(Expressions.bucket("fixed", 4)).build();
    Table t = create("types" + version, schema, spec, order, Map.of("format-version", "" + version, "write.metadata.compression-codec", "none"));
    keep(t, "v" + version + "-every-type");
    UpdateSchema update = t.updateSchema().addColumn("st.deep", "more", Types.StructType.of(of(1, "a", Types.StringType.get()), of(2, "b", Types.TimeType.get())), "with \"quotes\"")
        .addColumn("map", "w", Types.LongType.get()).moveFirst("text").moveAfter("int", "bytes").makeColumnOptional("flag")
        .updateColumn("int", Types.LongType.get()).updateColumn("small", Types.DecimalType.of(20, 2)).updateColumnDoc("id", "the \u001f key: \u00e9\n").deleteColumn("float");
    if (version == 3) update.deleteColumn("unknown").renameColumn("plan", "map_of_it");
    update.commit();
    t.updateSchema().setIdentifierFields("st.key").commit();
    t.updateSpec().removeField("uuid_bucket").addField(Expressions.ref("fixed")).addField("year", Expressions.year("tz")).commit();
    t.newAppend().commit();
    keep(t, "v" + version + "-every-type-evolved");
  }

  /** A default of each type that has one, at first and when written. */
  static void defaults() throws Exception {
    Object[][] all = {
      {"boolean", Types.BooleanType.get(), Literal.of(true)}, {"int", Types.IntegerType.get(), Literal.of(-7)}, {"long", Types.LongType.get(), Literal.of(1L << 60)},
      {"float", Types.FloatType.get(), Literal.of(0.1f)}, {"double", Types.DoubleType.get(), Literal.of(1e300)}, {"whole", Types.DoubleType.get(), Literal.of(3.0)},
      {"small", Types.DecimalType.of(9, 2), Literal.of(new BigDecimal("-14.20"))}, {"large", Types.DecimalType.of(38, 10), Literal.of(new BigDecimal("1234567890123456789012345678.0123456789"))},
      {"plain", Types.DecimalType.of(20, 0), Literal.of(new BigDecimal("7"))}, {"tiny", Types.DecimalType.of(20, 12), Literal.of(new BigDecimal("0.000000000001"))},
      {"date", Types.DateType.get(), Literal.of("1969-12-31").to(Types.DateType.get())}, {"time", Types.TimeType.get(), Literal.of("10:00:00.000001").to(Types.TimeType.get())},
      {"midnight", Types.TimeType.get(), Literal.of("00:00:00").to(Types.TimeType.get())},
      {"ts", Types.TimestampType.withoutZone(), Literal.of("1969-12-31T23:59:59.5").to(Types.TimestampType.withoutZone())},
      {"tz", Types.TimestampType.withZone(), Literal.of("2024-02-29T00:00:00+00:00").to(Types.TimestampType.withZone())},
      {"ns", Types.TimestampNanoType.withoutZone(), Literal.of("1969-12-31T23:59:59.999999999").to(Types.TimestampNanoType.withoutZone())},
      {"nstz", Types.TimestampNanoType.withZone(), Literal.of("2024-02-29T00:00:00.5+00:00").to(Types.TimestampNanoType.withZone())},
      {"text", Types.StringType.get(), Literal.of("a \"quote\" and \u001f\u00e9")}, {"empty", Types.StringType.get(), Literal.of("")},
      {"uuid", Types.UUIDType.get(), Literal.of(UUID.fromString("f79c3e09-677c-4bbd-a479-3f349cb785e7"))},
      {"fixed", Types.FixedType.ofLength(3), Literal.of(new byte[] {0, -1, 10}).to(Types.FixedType.ofLength(3))},
      {"bytes", Types.BinaryType.get(), Literal.of(ByteBuffer.wrap(new byte[] {0, -1}))}, {"no_bytes", Types.BinaryType.get(), Literal.of(ByteBuffer.allocate(0))},
    };
    List<NestedField> columns = new ArrayList<>(List.of(NestedField.required(1, "id", Types.LongType.get())));
    List<NestedField> nested = new ArrayList<>();
    int id = 2;
    for (Object[] one : all) {
      boolean required = id % 3 == 0;
      NestedField.Builder field = required ? NestedField.required((String) one[0]) : NestedField.optional((String) one[0]);
      columns.add(field.withId(id).ofType((Type) one[1]).withInitialDefault((Literal<?>) one[2]).withWriteDefault((Literal<?>) one[2]).build());
      nested.add(NestedField.optional((String) one[0]).withId(100 + id++).ofType((Type) one[1]).withWriteDefault((Literal<?>) one[2]).withDoc("nested").build());
    }
    columns.add(of(90, "st", Types.StructType.of(nested)));
    columns.add(of(91, "list", Types.ListType.ofOptional(92, Types.StructType.of(
        NestedField.required("n").withId(93).ofType(Types.IntegerType.get()).withInitialDefault(Literal.of(5)).withWriteDefault(Literal.of(6)).build()))));
    Table t = create("defaults", new Schema(columns), 3);
    keep(t, "v3-defaults");
    t.updateSchema().addColumn("later", Types.StringType.get(), "came later", Literal.of("none")).addRequiredColumn("must", Types.IntegerType.get(), Literal.of(0))
        .updateColumnDefault("int", Literal.of(8)).updateColumnDefault("st.text", Literal.of("other")).renameColumn("date", "day").updateColumn("float", Types.DoubleType.get())
        .addColumn("st", "in", Types.TimestampNanoType.withZone(), Literal.of("2024-02-29T00:00:00.000000001+00:00").to(Types.TimestampNanoType.withZone()))
        .updateColumn("small", Types.DecimalType.of(12, 2)).deleteColumn("uuid").moveFirst("must").commit();
    append(t, 1);
    keep(t, "v3-defaults-evolved");
  }

  static void transforms() throws Exception {
    Schema schema = new Schema(NestedField.required(1, "id", Types.LongType.get()), of(2, "text", Types.StringType.get()), of(3, "day", Types.DateType.get()),
        of(4, "ts", Types.TimestampType.withoutZone()), of(5, "ns", Types.TimestampNanoType.withZone()), of(6, "d", Types.DecimalType.of(10, 3)),
        of(7, "bin", Types.BinaryType.get()), of(8, "u", Types.UUIDType.get()), of(9, "time", Types.TimeType.get()), of(10, "other", Types.DateType.get()));
    PartitionSpec spec = PartitionSpec.builderFor(schema).identity("time").bucket("id", 1).bucket("u", 2147483647, "many").truncate("text", 1).truncate("d", 50).truncate("bin", 3)
        .year("day").month("other").hour("ts").day("ns", "the day").alwaysNull("id", "gone").build();
    SortOrder order = SortOrder.builderFor(schema).asc("id").asc(Expressions.year("day")).desc(Expressions.month("ts")).desc(Expressions.day("ns"), NullOrder.NULLS_FIRST)
        .asc(Expressions.hour("ts"), NullOrder.NULLS_LAST).asc(Expressions.bucket("u", 8)).desc(Expressions.truncate("d", 10)).build();
    Table t = create("transforms", schema, spec, order, Map.of("format-version", "3"));
    keep(t, "v3-every-transform");
    // Fields that go and come again have their ids again; a name that was taken is free again.
    t.updateSpec().removeField("the day").removeField("id_bucket").removeField("many").commit();
    t.updateSpec().addField(Expressions.day("ns")).addField(Expressions.bucket("id", 1)).addField("many", Expressions.bucket("u", 5)).commit();
    t.updateSpec().renameField("many", "few").removeField("gone").addField("gone", Expressions.ref("text")).commit();
    t.updateSpec().removeField("few").addNonDefaultSpec().commit();
    t.replaceSortOrder().asc(Expressions.bucket("id", 3)).commit();
    t.replaceSortOrder().commit();
    keep(t, "v3-specs-and-orders");
  }

  /** Snapshots that go: what is left of the logs, of schemas and of specs. */
  static void history() throws Exception {
    Schema schema = new Schema(NestedField.required(1, "id", Types.LongType.get()), of(2, "a", Types.StringType.get()));
    for (int version = 1; version <= 3; version++) {
      Table t = create("history" + version, schema, PartitionSpec.unpartitioned(), SortOrder.unsorted(), Map.of("format-version", "" + version,
          "write.metadata.previous-versions-max", "4", "history.expire.min-snapshots-to-keep", "2", "history.expire.max-snapshot-age-ms", "1"));
      append(t, 3);
      long second = t.history().get(1).snapshotId();
      t.updateSchema().addColumn("b", Types.IntegerType.get()).commit();
      append(t, 2);
      t.manageSnapshots().rollbackTo(second).commit();
      append(t, 1);
      t.updateSchema().deleteColumn("a").commit();
      t.updateSpec().addField(Expressions.bucket("id", 4)).commit();
      t.newAppend().appendFile(file(t, "1")).commit();
      t.manageSnapshots().createTag("kept", second).commit();
      keep(t, "v" + version + "-rolled-back");
      t.expireSnapshots().expireOlderThan(System.currentTimeMillis()).retainLast(1).cleanExpiredFiles(false).commit();
      keep(t, "v" + version + "-expired");
      t.manageSnapshots().removeTag("kept").commit();
      t.expireSnapshots().expireOlderThan(System.currentTimeMillis()).retainLast(1).cleanExpiredFiles(false).cleanExpiredMetadata(true).commit();
      keep(t, "v" + version + "-expired-with-schemas-and-specs");
    }
  }

  /** Keys of an encrypted table, and snapshots whose lists they encrypt. */
  static void keys() throws Exception {
    Table t = create("keys", new Schema(NestedField.required(1, "id", Types.LongType.get())), 3);
    append(t, 1);
    TableOperations operations = operations(t);
    TableMetadata base = operations.refresh();
    String json = SnapshotParser.toJson(t.currentSnapshot(), false).replaceFirst("\\{", "{\"key-id\":\"k2\",").replaceFirst("\"snapshot-id\":\\d+", "\"snapshot-id\":77")
        .replaceFirst("\"sequence-number\":1", "\"sequence-number\":2").replaceFirst("\"timestamp-ms\":\\d+", "\"timestamp-ms\":" + (base.lastUpdatedMillis() + 1))
        .replaceFirst("\"first-row-id\":0", "\"first-row-id\":10");
    TableMetadata next = TableMetadata.buildFrom(base)
        .addEncryptionKey(new BaseEncryptedKey("k1", ByteBuffer.wrap("key one".getBytes(StandardCharsets.UTF_8)), null, Map.of()))
        .addEncryptionKey(new BaseEncryptedKey("k2", ByteBuffer.wrap(new byte[] {0, -1, 62, 63, -3}), "k1", Map.of("made", "today", "empty", "")))
        .setBranchSnapshot(SnapshotParser.fromJson(json), "main").build();
    operations.commit(base, next);
    keep(t, "v3-encryption-keys");
  }

  static void statistics() throws Exception {
    for (int version = 1; version <= 3; version++) {
      Table t = create("statistics" + version, new Schema(NestedField.required(1, "id", Types.LongType.get()), of(2, "a", Types.StringType.get())), version);
      append(t, 3);
      List<Snapshot> snapshots = new ArrayList<>();
      t.snapshots().forEach(snapshots::add);
      for (Snapshot s : snapshots.subList(1, 3)) {
        List<BlobMetadata> blobs = List.of(
            new GenericBlobMetadata("apache-datasketches-theta-v1", s.snapshotId(), s.sequenceNumber(), List.of(1), Map.of("ndv", "30")),
            new GenericBlobMetadata("other", s.snapshotId(), s.sequenceNumber(), List.of(2, 1), Map.of()));
        t.updateStatistics().setStatistics(new GenericStatisticsFile(s.snapshotId(), t.location() + "/metadata/" + s.sequenceNumber() + ".stats", 124L, 27L, blobs)).commit();
        t.updatePartitionStatistics().setPartitionStatistics(ImmutableGenericPartitionStatisticsFile.builder().snapshotId(s.snapshotId())
            .path(t.location() + "/metadata/" + s.sequenceNumber() + ".parquet").fileSizeInBytes(43L).build()).commit();
      }
      keep(t, "v" + version + "-statistics");
    }
  }

  /** A table made again in the place of another keeps its id, its history and the ids of columns of the same names. */
  static void replaced() throws Exception {
    TableIdentifier name = TableIdentifier.of("db", "replaced");
    Schema schema = new Schema(NestedField.required(1, "id", Types.LongType.get()), of(2, "a", Types.StringType.get()), of(3, "b", Types.StringType.get()));
    Table t = create("replaced", schema, PartitionSpec.builderFor(schema).identity("a").bucket("id", 2).build(), SortOrder.builderFor(schema).asc("b").build(),
        Map.of("format-version", "1", "one", "1", "two", "2"));
    t.newAppend().appendFile(file(t, "x", "0")).commit();
    t.manageSnapshots().createTag("before", t.currentSnapshot().snapshotId()).commit();
    Schema other = new Schema(NestedField.required(1, "b", Types.StringType.get()), of(2, "new", Types.StructType.of(of(3, "id", Types.IntegerType.get()))), of(4, "a", Types.StringType.get()));
    Transaction x = CATALOG.buildTable(name, other).withPartitionSpec(PartitionSpec.builderFor(other).truncate("b", 2).identity("a").build())
        .withSortOrder(SortOrder.builderFor(other).desc("new.id").build()).withProperties(Map.of("two", "3")).createOrReplaceTransaction();
    x.newAppend().appendFile(DataFiles.builder(x.table().spec()).withPath("file:///elsewhere/1.parquet").withFormat(FileFormat.PARQUET).withFileSizeInBytes(9).withRecordCount(3).build()).commit();
    x.commitTransaction();
    t = CATALOG.loadTable(name);
    keep(t, "v1-replaced");
    Transaction again = CATALOG.buildTable(name, schema).withLocation("file:///moved/replaced/").withProperty("format-version", "2").replaceTransaction();
    again.updateProperties().set("three", "").commit();
    again.commitTransaction();
    keep(CATALOG.loadTable(name), "v1-replaced-by-v2-elsewhere");
  }

  static void upgraded() throws Exception {
    Schema schema = new Schema(NestedField.required(1, "id", Types.LongType.get()), of(2, "a", Types.StringType.get()));
    Table t = create("upgraded", schema, PartitionSpec.builderFor(schema).identity("a").build(), SortOrder.unsorted(), Map.of("format-version", "1"));
    t.newAppend().appendFile(file(t, "x")).commit();
    t.updateSpec().removeField("a").commit();
    for (int version = 2; version <= 3; version++) {
      t.updateProperties().set("format-version", "" + version).commit();
      keep(t, "v1-upgraded-to-v" + version);
      t.newAppend().appendFile(file(t)).commit();
      if (version == 2) t.updateSpec().addField(Expressions.truncate("a", 1)).commit();
      if (version == 2) t.updateSpec().removeField("a_trunc_1").commit();
    }
    keep(t, "v1-upgraded-to-v3-with-rows");
  }

  static void branches() throws Exception {
    for (int version = 1; version <= 3; version++) {
      Table t = create("branches" + version, new Schema(NestedField.required(1, "id", Types.LongType.get())), version);
      // A branch of a table whose main has nothing yet.
      t.newAppend().appendFile(file(t)).toBranch("first").commit();
      keep(t, "v" + version + "-branch-before-main");
      append(t, 2);
      long id = t.currentSnapshot().snapshotId();
      t.manageSnapshots().createTag("a tag", id).setMaxRefAgeMs("a tag", Long.MAX_VALUE).createBranch("dev", id).setMinSnapshotsToKeep("dev", 1)
          .setMaxSnapshotAgeMs("dev", 1L).setMaxRefAgeMs("dev", 3_600_000L).setMinSnapshotsToKeep("main", 10).setMaxSnapshotAgeMs("main", 5_000_000_000L)
          .createBranch("empty").createTag("\u00e9/\"odd\"", id).commit();
      t.newAppend().appendFile(file(t)).toBranch("dev").stageOnly().set("wap.id", "x").commit();
      t.newRowDelta().addRows(file(t)).toBranch("dev").commit();
      if (version == 2) t.newRowDelta().addDeletes(FileMetadata.deleteFileBuilder(t.spec()).ofEqualityDeletes(1).withPath("file:///warehouse/d.parquet").withFileSizeInBytes(9).withRecordCount(2).build()).commit();
      t.manageSnapshots().renameBranch("empty", "renamed").replaceBranch("renamed", "dev").commit();
      Transaction x = t.newTransaction();
      x.updateProperties().set("in", "one").commit();
      x.newAppend().appendFile(file(t)).commit();
      x.manageSnapshots().createBranch("at once").commit();
      x.newOverwrite().overwriteByRowFilter(Expressions.alwaysTrue()).addFile(file(t)).commit();
      x.commitTransaction();
      keep(t, "v" + version + "-branches");
    }
  }

  /** Names and values that are hard to write. */
  static void names() throws Exception {
    Schema schema = new Schema(NestedField.required("a.b").withId(1).withDoc("").ofType(Types.LongType.get()).build(), of(2, "1st \u00e9\u4e2d\ud83d\ude00", Types.StringType.get()),
        of(3, "\"q\"\\\t\u001f\u007f\u2028", Types.StructType.of(of(4, "a.b", Types.StringType.get()), of(5, "", Types.StringType.get()))), of(6, "default", Types.StringType.get()));
    PartitionSpec spec = PartitionSpec.builderFor(schema).bucket("a.b", 4, "a.b bucket/\u00e9").identity("1st \u00e9\u4e2d\ud83d\ude00").build();
    Map<String, String> properties = new HashMap<>(Map.of("format-version", "2", "", "no name", "\u00e9\"\\\n\u0000", "\ud83d\ude00</script>\u2028", "long", "x".repeat(300), "json", "{\"a\": [1, null]}"));
    properties.put("last-updated-ms", "5");
    Table t = create("names", schema, spec, SortOrder.unsorted(), properties);
    t.updateProperties().set("snapshot-log", "[]").commit();
    keep(t, "v2-odd-names");
  }
}
