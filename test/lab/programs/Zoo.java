import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Scanner;

/** A Java program with something to find. See zoo.ts for what it reads and prints. */
public final class Zoo {
  private static final List<Object> HELD = new ArrayList<>();

  private static byte decode(String coded, int index) {
    return (byte) (Integer.parseInt(coded.substring(2 * index, 2 * index + 2), 16) ^ 0x5a);
  }

  /** One byte a character: compact strings keep Latin-1 so. */
  private static void inHeap(String coded) {
    byte[] bytes = new byte[coded.length() / 2];
    for (int i = 0; i < bytes.length; i++) bytes[i] = decode(coded, i);
    HELD.add(new String(bytes, StandardCharsets.ISO_8859_1));
    Arrays.fill(bytes, (byte) 0);
  }

  private static void outsideHeap(String coded) {
    ByteBuffer buffer = ByteBuffer.allocateDirect(coded.length() / 2);
    for (int i = 0; i < buffer.capacity(); i++) buffer.put(i, decode(coded, i));
    HELD.add(buffer);
  }

  public static void main(String[] arguments) throws Exception {
    long pid = ProcessHandle.current().pid();
    Scanner input = new Scanner(System.in);
    while (input.hasNext()) {
      String place = input.next();
      String coded = input.next();
      if (place.equals("java-string")) inHeap(coded);
      else outsideHeap(coded);
      System.out.println(place + " " + pid);
    }
    System.out.println("ready");
    Thread.sleep(3_600_000);
    System.out.println(HELD.size());
  }
}
