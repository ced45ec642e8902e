import apache.rocketmq.v2.MQAdmin;
import apache.rocketmq.v2.MQDomain;
import apache.rocketmq.v2.MQService;
import com.google.protobuf.DescriptorProtos.FileDescriptorSet;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Writes the descriptors inside Apache's published rocketmq-proto as one {@code FileDescriptorSet}: the jar
 * holds classes only, so they are asked for what they were generated from.
 */
final class PublishedContract {
    public static void main(String[] arguments) throws IOException {
        FileDescriptorSet contract = FileDescriptorSet.newBuilder()
                .addFile(MQDomain.getDescriptor().toProto())
                .addFile(MQService.getDescriptor().toProto())
                .addFile(MQAdmin.getDescriptor().toProto())
                .build();
        Files.write(Path.of(arguments[0]), contract.toByteArray());
    }
}
