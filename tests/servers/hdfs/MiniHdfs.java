import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** Runs an HDFS of one name node and one data node on this machine, until it is killed. */
class MiniHdfs {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new HdfsConfiguration();
        configuration.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, arguments[0]);
        configuration.setBoolean("dfs.permissions.enabled", false);
        configuration.setInt("dfs.replication", 1);
        MiniDFSCluster cluster = new MiniDFSCluster.Builder(configuration)
            .numDataNodes(1)
            .build();
        cluster.waitActive();
        System.out.println("HDFS is ready at 127.0.0.1:" + cluster.getNameNodePort());
        Thread.currentThread().join();
    }
}
