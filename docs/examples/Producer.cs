// Queues one order: Producer QUEUE TYPE KEY < order.json
// The driver is Microsoft.Data.Sqlite; with Mono, Mono.Data.Sqlite does as well.

using System;
using System.IO;
using System.Text;
#if MONO
using Mono.Data.Sqlite;
#else
using Microsoft.Data.Sqlite;
#endif

public static class Producer
{
#if MONO
    const string Existing = "FailIfMissing=True";
#else
    const string Existing = "Mode=ReadWrite";
#endif

    /// <summary>Queues the order; false: it is in the queue already. Can be repeated after any error.</summary>
    public static bool Enqueue(string path, string orderType, string key, string order)
    {
        // Existing: where there is no queue, none is made.
        using (var queue = new SqliteConnection("Data Source=" + path + ";" + Existing))
        {
            queue.Open();
            using (var command = queue.CreateCommand())
            {
                // Others may be writing, for a moment; committed means on disk; the daemon does the checkpoints.
                command.CommandText =
                    "PRAGMA busy_timeout=5000; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0";
                command.ExecuteNonQuery();
                command.CommandText =
                    "INSERT INTO orders (order_type, dedup_key, body) VALUES (@type, @key, @body)";
                command.Parameters.AddWithValue("@type", orderType);
                command.Parameters.AddWithValue("@key", key);
                command.Parameters.AddWithValue("@body", order);
                try
                {
                    command.ExecuteNonQuery();
                    return true;
                }
                catch (SqliteException refused)
                    when (refused.Message.Contains("dedup_key: this order is in the queue already"))
                {
                    return false;
                }
            }
        }
    }

    public static int Main(string[] args)
    {
        var order = new StreamReader(Console.OpenStandardInput(), Encoding.UTF8).ReadToEnd();
        try
        {
            Console.WriteLine(Enqueue(args[0], args[1], args[2], order) ? "queued" : "was queued already");
            return 0;
        }
        catch (SqliteException error)
        {
            Console.Error.WriteLine("not queued: " + error.Message);
            return 1;
        }
    }
}
