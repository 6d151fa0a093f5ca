// Queues one order: java -cp sqlite-jdbc.jar Producer.java QUEUE TYPE KEY < order.json
// The driver is org.xerial:sqlite-jdbc.

import java.nio.charset.StandardCharsets;
import java.sql.DriverManager;
import java.sql.SQLException;

public class Producer {
    /** Queues the order; false: it is in the queue already. Can be repeated after any error. */
    static boolean enqueue(String path, String orderType, String key, String order) throws SQLException {
        // mode=rw: where there is no queue, none is made.
        try (var queue = DriverManager.getConnection("jdbc:sqlite:file:" + path + "?mode=rw");
                var pragma = queue.createStatement();
                var insert = queue.prepareStatement(
                        "INSERT INTO orders (order_type, dedup_key, body) VALUES (?, ?, ?)")) {
            pragma.execute("PRAGMA busy_timeout=5000"); // others may be writing, for a moment
            pragma.execute("PRAGMA synchronous=FULL"); // committed means on disk
            pragma.execute("PRAGMA wal_autocheckpoint=0"); // the daemon does that
            insert.setString(1, orderType);
            insert.setString(2, key);
            insert.setString(3, order);
            insert.executeUpdate();
            return true;
        } catch (SQLException refused) {
            if (refused.getMessage().contains("dedup_key: this order is in the queue already")) {
                return false;
            }
            throw refused;
        }
    }

    public static void main(String[] args) throws Exception {
        var order = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        try {
            System.out.println(enqueue(args[0], args[1], args[2], order) ? "queued" : "was queued already");
        } catch (SQLException error) {
            System.err.println("not queued: " + error.getMessage());
            System.exit(1);
        }
    }
}
