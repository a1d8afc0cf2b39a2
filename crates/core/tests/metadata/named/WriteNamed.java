import java.io.InputStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import org.apache.iceberg.*;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.inmemory.InMemoryCatalog;
import org.apache.iceberg.types.Types;
import org.apache.iceberg.types.Types.NestedField;

/**
 * Writes the tables v1, v2 and v3 of this folder with Iceberg Java 1.10.2: java -cp CLASSPATH WriteNamed TO
 *
 * They are partitioned by several columns of each type that has a name in Avro. Data files are only named.
 */
public class WriteNamed {
  public static void main(String[] args) throws Exception {
    InMemoryCatalog catalog = new InMemoryCatalog();
    catalog.initialize("memory", Map.of(CatalogProperties.WAREHOUSE_LOCATION, "file:///warehouse"));
    catalog.createNamespace(Namespace.of("db"));
    for (int version = 1; version <= 3; version++) {
      Table t = catalog.createTable(TableIdentifier.of("db", "v" + version), schema(), spec(), Map.of("format-version", "" + version));
      t.newAppend().appendFile(file(t, 0)).appendFile(file(t, 1)).appendFile(file(t, 2)).commit();
      t.newFastAppend().appendFile(file(t, 3)).commit();
      t.newDelete().deleteFile(t.location() + "/data/1.parquet").commit();
      t.rewriteManifests().clusterBy(f -> "all").commit();
      t.newDelete().deleteFile(t.location() + "/data/3.parquet").commit();
      Path to = Path.of(args[0], "v" + version);
      Files.createDirectories(to);
      copy(t, ((HasTableOperations) t).operations().refresh().metadataFileLocation(), to.resolve("table.metadata.json"));
      Snapshot current = t.currentSnapshot();
      copy(t, current.manifestListLocation(), to);
      for (ManifestFile manifest : current.allManifests(t.io())) copy(t, manifest.path(), to);
    }
  }

  static void copy(Table t, String location, Path to) throws Exception {
    Path path = Files.isDirectory(to) ? to.resolve(location.substring(location.lastIndexOf('/') + 1)) : to;
    try (InputStream in = t.io().newInputFile(location).newStream()) { Files.write(path, in.readAllBytes()); }
  }

  static Schema schema() {
    return new Schema(NestedField.required(1, "id", Types.LongType.get()),
        NestedField.optional(2, "price", Types.DecimalType.of(9, 2)), NestedField.optional(3, "tax", Types.DecimalType.of(9, 2)),
        NestedField.optional(4, "large", Types.DecimalType.of(38, 10)), NestedField.optional(5, "larger", Types.DecimalType.of(38, 10)),
        NestedField.optional(6, "code", Types.FixedType.ofLength(3)), NestedField.optional(7, "other_code", Types.FixedType.ofLength(3)),
        NestedField.optional(8, "key", Types.UUIDType.get()), NestedField.optional(9, "other_key", Types.UUIDType.get()),
        NestedField.optional(10, "long_code", Types.FixedType.ofLength(16)));
  }

  static PartitionSpec spec() {
    return PartitionSpec.builderFor(schema()).identity("price").identity("tax").truncate("price", 50).identity("large").identity("larger")
        .identity("code").identity("other_code").identity("key").identity("other_key").identity("long_code").build();
  }

  static DataFile file(Table t, int n) {
    PartitionData p = new PartitionData(t.spec().partitionType());
    if (n != 2) {
      p.set(0, BigDecimal.valueOf(-100L * n, 2));
      p.set(2, BigDecimal.valueOf(-100L * n, 2));
      p.set(5, ByteBuffer.wrap(new byte[] {0, (byte) n, -1}));
      p.set(7, new UUID(n, -1));
    }
    p.set(1, BigDecimal.valueOf(999_999_999L - n, 2));
    p.set(3, new BigDecimal("-1234567890123456789012345678.0123456789").add(BigDecimal.valueOf(n)));
    p.set(4, BigDecimal.valueOf(n, 10));
    p.set(6, ByteBuffer.wrap(new byte[] {1, 2, (byte) n}));
    p.set(8, new UUID(-1, n));
    p.set(9, ByteBuffer.wrap(new byte[] {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, (byte) n}));
    return DataFiles.builder(t.spec()).withPath(t.location() + "/data/" + n + ".parquet").withFormat(FileFormat.PARQUET)
        .withFileSizeInBytes(1000).withRecordCount(10 + n).withPartition(p).build();
  }
}
