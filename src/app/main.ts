/** Starts the page: colours first, then the engine in its worker, then everything that needs it. */
import './components.ts';
import './style.css';
import { connectEngine } from '../index.ts';
import { keepFocus } from './focus.ts';
import { Messages } from './messages.ts';
import { Page } from './page.ts';
import { startTheme } from './theme.ts';

startTheme();
keepFocus();
const messages = new Messages();
try {
  const worker = new Worker(new URL('../worker/index.ts', import.meta.url), { type: 'module', name: 'tabdisk' });
  const page = new Page(await connectEngine(worker), messages);
  await page.start();
} catch (error) {
  document.body.append(messages.element);
  messages.error('tabdisk cannot work in this browser window', error);
}
