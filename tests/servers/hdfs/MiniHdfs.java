import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** Runs an HDFS of one name node and one data node on this machine, until it is killed. */
class MiniHdfs {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new HdfsConfiguration();
        configuration.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, arguments[1]);
        configuration.setBoolean("dfs.permissions.enabled", false);
        configuration.setInt("dfs.replication", 1);
        MiniDFSCluster cluster = new MiniDFSCluster.Builder(configuration)
            .nameNodePort(Integer.parseInt(arguments[0]))
            .numDataNodes(1)
            .build();
        cluster.waitActive();
        System.out.println("HDFS is ready");
        Thread.currentThread().join();
    }
}
