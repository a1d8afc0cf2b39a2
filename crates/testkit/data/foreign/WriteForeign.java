import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.*;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.*;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.data.GenericRecord;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.data.parquet.GenericParquetWriter;
import org.apache.iceberg.hadoop.HadoopCatalog;
import org.apache.iceberg.io.FileAppender;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.parquet.Parquet;
import org.apache.iceberg.parquet.VariantShreddingFunction;
import org.apache.iceberg.shaded.org.apache.parquet.schema.LogicalTypeAnnotation;
import org.apache.iceberg.shaded.org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName;
import org.apache.iceberg.shaded.org.apache.parquet.schema.Type;
import org.apache.iceberg.types.EdgeAlgorithm;
import org.apache.iceberg.types.Types;
import org.apache.iceberg.types.Types.NestedField;
import org.apache.iceberg.variants.*;

/**
 * The tables of this folder, with Iceberg Java 1.10.2: java -cp CLASSPATH WriteForeign file:///tmp/lake
 *
 * `variants` has a file whose variants are whole, one whose variants are shredded, and one from before a column was added.
 * `shapes` has geometries in its schema and no rows: Iceberg Java does not write them.
 */
public class WriteForeign {
  static final VariantMetadata NAMES = Variants.metadata("a", "b", "list", "note", "price", "when");

  public static void main(String[] args) throws Exception {
    HadoopCatalog catalog = new HadoopCatalog(new Configuration(), args[0]);
    variants(catalog);
    Schema shapes = new Schema(NestedField.required(1, "id", Types.LongType.get()),
        NestedField.optional(2, "point", Types.GeometryType.crs84()),
        NestedField.optional(3, "plan", Types.GeometryType.of("srid:3857")),
        NestedField.optional(4, "route", Types.GeographyType.of("srid:4269", EdgeAlgorithm.KARNEY)),
        NestedField.optional(5, "all", Types.ListType.ofOptional(6, Types.GeometryType.crs84())),
        NestedField.optional(7, "nothing", Types.UnknownType.get()));
    catalog.createTable(TableIdentifier.of("db", "shapes"), shapes, PartitionSpec.unpartitioned(), Map.of("format-version", "3"));
  }

  static void variants(HadoopCatalog catalog) throws Exception {
    Schema schema = new Schema(NestedField.required(1, "id", Types.LongType.get()),
        NestedField.optional(2, "v", Types.VariantType.get()),
        NestedField.optional(3, "s", Types.StructType.of(NestedField.optional(4, "n", Types.IntegerType.get()), NestedField.optional(5, "v", Types.VariantType.get()))),
        NestedField.optional(6, "l", Types.ListType.ofOptional(7, Types.VariantType.get())),
        NestedField.optional(8, "m", Types.MapType.ofOptional(9, 10, Types.StringType.get(), Types.VariantType.get())),
        NestedField.optional(11, "u", Types.UnknownType.get()));
    Table t = catalog.createTable(TableIdentifier.of("db", "variants"), schema, PartitionSpec.unpartitioned(), Map.of("format-version", "3"));
    t.newAppend().appendFile(write(t, rows(t.schema(), 0), null)).commit();
    t.updateSchema().addColumn("later", Types.VariantType.get()).commit();
    t.newAppend().appendFile(write(t, rows(t.schema(), 100), WriteForeign::shredded)).commit();
  }

  /** Objects have a, price, when and note in columns of their own; whatever else they are or have stays binary. */
  static Type shredded(int id, String name) {
    Type a = field("a", org.apache.iceberg.shaded.org.apache.parquet.schema.Types.optional(PrimitiveTypeName.INT32).as(LogicalTypeAnnotation.intType(32, true)).named("typed_value"));
    Type price = field("price", org.apache.iceberg.shaded.org.apache.parquet.schema.Types.optional(PrimitiveTypeName.INT32).as(LogicalTypeAnnotation.decimalType(2, 9)).named("typed_value"));
    Type when = field("when", org.apache.iceberg.shaded.org.apache.parquet.schema.Types.optional(PrimitiveTypeName.INT64).as(LogicalTypeAnnotation.timestampType(true, LogicalTypeAnnotation.TimeUnit.MICROS)).named("typed_value"));
    Type note = field("note", org.apache.iceberg.shaded.org.apache.parquet.schema.Types.optional(PrimitiveTypeName.BINARY).as(LogicalTypeAnnotation.stringType()).named("typed_value"));
    return org.apache.iceberg.shaded.org.apache.parquet.schema.Types.optionalGroup().addFields(a, price, when, note).named("typed_value");
  }

  static Type field(String name, Type typed) {
    return org.apache.iceberg.shaded.org.apache.parquet.schema.Types.requiredGroup()
        .addField(org.apache.iceberg.shaded.org.apache.parquet.schema.Types.optional(PrimitiveTypeName.BINARY).named("value"))
        .addField(typed).named(name);
  }

  static List<Record> rows(Schema schema, long first) {
    List<Record> rows = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      Variant v = variant(i);
      Record s = i % 3 == 2 ? null : record(schema.findType("s").asStructType(), "n", i, "v", v);
      List<Variant> l = i % 4 == 3 ? null : Arrays.asList(v, null, variant(i + 1));
      Map<String, Variant> m = v == null ? null : Map.of("k", v);
      Record row = record(schema.asStruct(), "id", first + i, "v", v, "s", s, "l", l, "m", m);
      if (schema.findField("later") != null) row.setField("later", variant(i + 2));
      rows.add(row);
    }
    return rows;
  }

  static Variant variant(int i) {
    return switch (i % 8) {
      case 0 -> object("a", Variants.of(i + 1), "price", Variants.of(new BigDecimal("12.50")), "note", Variants.of("cheap"));
      case 1 -> null;
      case 2 -> object("a", Variants.of("one"), "b", Variants.of(true), "when", Variants.ofIsoTimestamptz("2024-06-22T10:00:00+00:00"));
      case 3 -> Variant.of(Variants.emptyMetadata(), Variants.ofNull());
      case 4 -> object("list", array(Variants.of(1), Variants.of("two"), object(NAMES, "b", Variants.of(3L))));
      case 5 -> Variant.of(Variants.emptyMetadata(), Variants.of("just text"));
      case 6 -> object("a", object(NAMES, "b", Variants.of(2.5)), "note", Variants.ofNull());
      default -> Variant.of(Variants.emptyMetadata(), Variants.of(ByteBuffer.wrap(new byte[] {1, 2, 3})));
    };
  }

  /** Serialized, as variants are that were read: writers of shredded files take those of Java objects apart wrongly. */
  static Variant object(Object... fields) {
    VariantValue value = object(NAMES, fields);
    ByteBuffer bytes = ByteBuffer.allocate(NAMES.sizeInBytes() + value.sizeInBytes()).order(ByteOrder.LITTLE_ENDIAN);
    NAMES.writeTo(bytes, 0);
    value.writeTo(bytes, NAMES.sizeInBytes());
    return Variant.from(bytes);
  }

  static ShreddedObject object(VariantMetadata names, Object... fields) {
    ShreddedObject object = Variants.object(names);
    for (int i = 0; i < fields.length; i += 2) object.put((String) fields[i], (VariantValue) fields[i + 1]);
    return object;
  }

  static ValueArray array(VariantValue... values) {
    ValueArray array = Variants.array();
    for (VariantValue value : values) array.add(value);
    return array;
  }

  static Record record(Types.StructType of, Object... values) {
    Record r = GenericRecord.create(of);
    for (int i = 0; i < values.length; i += 2) r.setField((String) values[i], values[i + 1]);
    return r;
  }

  static DataFile write(Table t, List<Record> rows, VariantShreddingFunction shredding) throws Exception {
    OutputFile out = t.io().newOutputFile(t.location() + "/data/" + (shredding == null ? "whole" : "shredded") + ".parquet");
    Parquet.WriteBuilder builder = Parquet.write(out).schema(t.schema()).named("table").overwrite()
        .createWriterFunc(message -> GenericParquetWriter.create(t.schema(), message));
    if (shredding != null) builder = builder.variantShreddingFunc(shredding);
    FileAppender<Record> w = builder.build();
    try (w) { w.addAll(rows); }
    return DataFiles.builder(t.spec()).withInputFile(out.toInputFile()).withMetrics(w.metrics()).withFormat(FileFormat.PARQUET).build();
  }
}
