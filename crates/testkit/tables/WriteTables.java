import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.time.*;
import java.util.*;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.*;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.data.*;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.deletes.*;
import org.apache.iceberg.encryption.*;
import org.apache.iceberg.expressions.Literal;
import org.apache.iceberg.hadoop.HadoopCatalog;
import org.apache.iceberg.io.*;
import org.apache.iceberg.types.Types;
import org.apache.iceberg.types.Types.NestedField;

/** Writes the tables of this folder: in Avro and in ORC, every type, and deletes of both kinds on a table that changed. */
public class WriteTables {
  static FileFormat format;

  public static void main(String[] args) throws Exception {
    HadoopCatalog catalog = new HadoopCatalog(new Configuration(), args[0]);
    for (FileFormat f : new FileFormat[] {FileFormat.AVRO, FileFormat.ORC}) {
      format = f;
      types(catalog);
      deletes(catalog);
    }
  }

  static NestedField of(int id, String name, org.apache.iceberg.types.Type type) {
    return NestedField.optional(id, name, type);
  }

  static void types(HadoopCatalog catalog) throws Exception {
    Types.StructType inner = Types.StructType.of(of(20, "a", Types.IntegerType.get()), of(21, "b", Types.StringType.get()),
        of(22, "d", Types.DecimalType.of(20, 5)), of(23, "l", Types.ListType.ofOptional(24, Types.DateType.get())));
    Types.StructType key = Types.StructType.of(NestedField.required(35, "x", Types.IntegerType.get()), of(36, "y", Types.StringType.get()));
    List<NestedField> columns = new ArrayList<>(List.of(NestedField.required(1, "id", Types.LongType.get()), of(2, "bool", Types.BooleanType.get()),
        of(3, "int", Types.IntegerType.get()), of(4, "float", Types.FloatType.get()), of(5, "double", Types.DoubleType.get()),
        of(6, "small", Types.DecimalType.of(9, 2)), of(7, "large", Types.DecimalType.of(38, 10)), of(8, "date", Types.DateType.get()),
        of(9, "time", Types.TimeType.get()), of(10, "ts", Types.TimestampType.withoutZone()), of(11, "tz", Types.TimestampType.withZone()),
        of(12, "text", Types.StringType.get()), of(13, "uuid", Types.UUIDType.get()), of(14, "fixed", Types.FixedType.ofLength(5)),
        of(15, "bytes", Types.BinaryType.get()), of(16, "st", inner), of(17, "list", Types.ListType.ofRequired(25, Types.LongType.get())),
        of(18, "names", Types.MapType.ofOptional(26, 27, Types.StringType.get(), inner2())),
        of(19, "numbers", Types.MapType.ofOptional(28, 29, Types.IntegerType.get(), Types.StringType.get())),
        of(30, "deep", Types.ListType.ofOptional(31, Types.MapType.ofOptional(32, 33, Types.StringType.get(), Types.ListType.ofOptional(34, Types.DoubleType.get())))),
        of(37, "keyed", Types.MapType.ofOptional(38, 39, key, Types.BooleanType.get()))));
    columns.add(of(40, "ns", Types.TimestampNanoType.withoutZone()));
    columns.add(of(41, "nstz", Types.TimestampNanoType.withZone()));
    Schema schema = new Schema(columns);
    Table t = create(catalog, "types", schema, PartitionSpec.unpartitioned(), 3);
    List<Record> rows = new ArrayList<>();
    for (int i = 0; i < 12; i++) {
      Record r = GenericRecord.create(t.schema());
      r.setField("id", (long) i - 3);
      rows.add(r);
      if (i == 5) continue; // nothing else
      LocalDateTime time = LocalDateTime.of(1969, 12, 31, 23, 59, 58).plusNanos(i * 400_000_000L).plusDays(i * 37L - 150).plusNanos(i * 1000L);
      if (i == 7) time = LocalDateTime.of(1969, 12, 31, 23, 59, 58, 500_000_000);
      if (i == 8) time = LocalDateTime.of(1969, 12, 31, 23, 59, 57, 1_000);
      if (i == 9) time = LocalDateTime.of(2262, 1, 1, 0, 0, 0, 999_999_000);
      r.setField("bool", i % 3 == 0);
      r.setField("int", i % 2 == 0 ? Integer.MIN_VALUE + i : Integer.MAX_VALUE - i);
      r.setField("float", i == 3 ? Float.NaN : i * -0.5f);
      r.setField("double", i == 4 ? Double.NEGATIVE_INFINITY : i * 1e300);
      r.setField("small", new BigDecimal(i * 1234567L % 999999999 - 300).movePointLeft(2));
      r.setField("large", new BigDecimal("-1234567890123456789012345678.0123456789").add(new BigDecimal(i)).setScale(10));
      r.setField("date", LocalDate.of(1970, 1, 1).plusDays(i * 1000L - 5000));
      r.setField("time", LocalTime.ofNanoOfDay(86_399_999_999_000L - i * 1_000_000_000_000L / 7 * 7 / 1000 * 1000));
      r.setField("ts", time);
      r.setField("tz", time.atOffset(ZoneOffset.UTC));
      r.setField("ns", time.plusNanos(i == 9 ? 0 : i));
      r.setField("nstz", time.plusNanos(i == 9 ? 1 : i).atOffset(ZoneOffset.UTC));
      r.setField("text", i == 6 ? "" : "text " + "é|\\x".repeat(i % 4));
      r.setField("uuid", new UUID(i * 0x123456789abcdefL, -i));
      r.setField("fixed", new byte[] {1, (byte) i, (byte) -i, 0, 5});
      r.setField("bytes", ByteBuffer.wrap(new byte[i]));
      if (i % 4 != 1) {
        Record st = GenericRecord.create(inner);
        if (i % 4 != 2) { st.setField("a", i); st.setField("b", "b" + i); st.setField("d", new BigDecimal(i).setScale(5)); }
        st.setField("l", i == 10 ? List.of() : Arrays.asList(LocalDate.of(2000, 1, i + 1), null));
        r.setField("st", st);
      }
      if (i % 3 != 1) r.setField("list", i % 3 == 2 ? List.of() : List.of((long) i, 1L << 40, -1L));
      Map<String, Record> names = new HashMap<>();
      Map<Integer, String> numbers = new HashMap<>();
      Map<String, List<Double>> deep = new HashMap<>();
      Map<Record, Boolean> keyed = new HashMap<>();
      for (int k = 0; k < i % 5; k++) {
        Record v = GenericRecord.create(inner2());
        v.setField("p", (float) k);
        names.put("k" + k, k == 2 ? null : v);
        numbers.put(k - 1, k == 1 ? null : "v" + k);
        deep.put("d" + k, k == 3 ? null : Arrays.asList(1.5 * k, null));
        Record kr = GenericRecord.create(key);
        kr.setField("x", k);
        kr.setField("y", k == 1 ? null : "y");
        keyed.put(kr, k % 2 == 0);
      }
      r.setField("names", names);
      if (i != 2) r.setField("numbers", numbers);
      if (i != 3) r.setField("deep", i == 1 ? Arrays.asList(null, deep) : List.of(deep));
      r.setField("keyed", keyed);
    }
    t.newAppend().appendFile(data(t, rows, null, format)).commit();
  }

  static Types.StructType inner2() { return Types.StructType.of(of(50, "p", Types.FloatType.get())); }

  static void deletes(HadoopCatalog catalog) throws Exception {
    Schema schema = new Schema(NestedField.required(1, "id", Types.IntegerType.get()), of(2, "part", Types.StringType.get()), of(3, "name", Types.StringType.get()),
        of(4, "gone", Types.IntegerType.get()), of(5, "st", Types.StructType.of(of(6, "x", Types.IntegerType.get()), of(7, "y", Types.FloatType.get()))));
    PartitionSpec spec = PartitionSpec.builderFor(schema).identity("part").build();
    Table t = create(catalog, "deletes", schema, spec, 2);
    PartitionData a = new PartitionData(t.spec().partitionType()), b = new PartitionData(t.spec().partitionType());
    a.set(0, "a"); b.set(0, "b");
    DataFile first = data(t, some(t, 0, 40, "a"), a, format), second = data(t, some(t, 40, 60, "b"), b, format);
    t.newAppend().appendFile(first).appendFile(second).commit();
    List<PositionDelete<Record>> positions = new ArrayList<>();
    for (long at : new long[] {0, 7, 8, 39}) positions.add(PositionDelete.<Record>create().set(first.location(), at, null));
    Schema byName = t.schema().select("name");
    t.newRowDelta().addDeletes(positionDeletes(t, positions, a)).addDeletes(equalityDeletes(t, byName, List.of(record(byName, "name", "n42"), record(byName, "name", null)), b)).commit();
    t.updateSchema().renameColumn("name", "label").deleteColumn("gone").updateColumn("id", Types.LongType.get())
        .addColumn("added", Types.DoubleType.get()).addColumn("st", "z", Types.StringType.get()).renameColumn("st.x", "xx").updateColumn("st.y", Types.DoubleType.get()).commit();
    List<Record> more = new ArrayList<>();
    for (int i = 42; i < 46; i++) more.add(record(t.schema(), "id", (long) i, "part", "b", "label", "n42", "added", i / 2.0));
    t.newAppend().appendFile(data(t, more, b, FileFormat.PARQUET)).commit();
  }

  static List<Record> some(Table t, int from, int to, String part) {
    List<Record> rows = new ArrayList<>();
    for (int i = from; i < to; i++) {
      Record st = GenericRecord.create(t.schema().findType("st").asStructType());
      st.setField("x", i); st.setField("y", i / 4f);
      rows.add(record(t.schema(), "id", i, "part", part, "name", i % 9 == 5 ? null : "n" + i, "gone", 7, "st", i % 5 == 0 ? null : st));
    }
    return rows;
  }

  static Table create(HadoopCatalog catalog, String name, Schema schema, PartitionSpec spec, int version) {
    return catalog.createTable(TableIdentifier.of("db", format.name().toLowerCase() + "_" + name), schema, spec, Map.of("format-version", "" + version));
  }

  static Record record(Schema schema, Object... values) {
    Record r = GenericRecord.create(schema);
    for (int i = 0; i < values.length; i += 2) r.setField((String) values[i], values[i + 1]);
    return r;
  }

  static EncryptedOutputFile out(Table t, FileFormat f) {
    return EncryptionUtil.plainAsEncryptedOutput(t.io().newOutputFile(t.location() + "/data/" + UUID.randomUUID().toString().substring(0, 8) + "." + f.name().toLowerCase()));
  }

  static DataFile data(Table t, List<Record> rows, PartitionData partition, FileFormat f) throws Exception {
    DataWriter<Record> w = new GenericAppenderFactory(t.schema(), t.spec()).newDataWriter(out(t, f), f, partition);
    try (w) { w.write(rows); }
    return w.toDataFile();
  }

  static DeleteFile positionDeletes(Table t, List<PositionDelete<Record>> rows, PartitionData partition) throws Exception {
    PositionDeleteWriter<Record> w = new GenericAppenderFactory(t.schema(), t.spec()).newPosDeleteWriter(out(t, format), format, partition);
    try (w) { for (PositionDelete<Record> row : rows) w.write(row); }
    return w.toDeleteFile();
  }

  static DeleteFile equalityDeletes(Table t, Schema keys, List<Record> rows, PartitionData partition) throws Exception {
    int[] ids = keys.columns().stream().mapToInt(NestedField::fieldId).toArray();
    EqualityDeleteWriter<Record> w = new GenericAppenderFactory(t.schema(), t.spec(), ids, keys, null).newEqDeleteWriter(out(t, format), format, partition);
    try (w) { for (Record row : rows) w.write(row); }
    return w.toDeleteFile();
  }
}
