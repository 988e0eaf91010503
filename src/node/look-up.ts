/** Where guest bytes are, with what it takes to know brought into memory. */
import type { Io } from '../base/io.ts';
import type { Extent, ImageDriver } from '../formats/driver.ts';

/** What `ImageDriver.look` answers, waited for. */
export function* lookUp(driver: ImageDriver, offset: number, length: number): Io<Extent> {
  for (;;) {
    const extent = driver.look(offset, length);
    if (extent) return extent;
    if (!driver.load) throw new Error(`tabdisk: ${driver.format} neither answers nor loads`);
    yield* driver.load(offset, length);
  }
}
