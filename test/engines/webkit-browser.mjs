/**
 * A browser of one window around Debian's WebKitGTK, run by gjs and started by WebKitWebDriver: `gjs -m webkit-browser.mjs DATA DOWNLOADS`.
 * WebKit's own MiniBrowser keeps no data when it is automated, and OPFS fails there; here data are kept in the folder DATA, as a visitor's
 * are. The storage features that WebKitGTK builds but leaves off are on, downloads go to the folder DOWNLOADS, complaints of pages to the output.
 */
import Gio from 'gi://Gio';
import Gtk from 'gi://Gtk?version=3.0';
import WebKit from 'gi://WebKit2?version=4.1';
import System from 'system';

const FEATURES = ['FileSystem', 'AccessHandle', 'StorageAPI', 'StorageAPIEstimate', 'FileSystemWritableStream'];
const [data, downloads] = System.programArgs;

Gtk.init(null);
const settings = new WebKit.Settings({ enable_write_console_messages_to_stdout: true });
const features = WebKit.Settings.get_all_features();
for (let i = 0; i < features.get_length(); i++) {
  const feature = features.get(i);
  if (FEATURES.includes(feature.get_identifier())) settings.set_feature_enabled(feature, true);
}

const dataManager = new WebKit.WebsiteDataManager({ base_data_directory: data, base_cache_directory: `${data}/cache` });
const context = new WebKit.WebContext({ website_data_manager: dataManager });
context.set_automation_allowed(true);
context.connect('download-started', (_, download) => {
  download.connect('decide-destination', (_, name) => {
    const file = Gio.File.new_for_path(`${downloads}/${name}`);
    // Under another name until it is whole.
    const part = Gio.File.new_for_path(`${downloads}/${name}.part`);
    download.set_destination(part.get_uri());
    download.connect('finished', () => part.move(file, Gio.FileCopyFlags.NONE, null, null));
    return true;
  });
});

const notebook = new Gtk.Notebook({ show_tabs: false });
const window = new Gtk.Window({ default_width: 1280, default_height: 860 });
window.add(notebook);

function newView() {
  const view = new WebKit.WebView({ web_context: context, settings, is_controlled_by_automation: true });
  view.connect('close', () => view.destroy());
  view.show();
  notebook.set_current_page(notebook.append_page(view, null));
  window.show_all();
  return view;
}

context.connect('automation-started', (_, session) => {
  session.set_application_info(applicationInfo());
  session.connect('create-web-view', newView);
});

function applicationInfo() {
  const info = new WebKit.ApplicationInfo();
  info.set_name('tabdisk-webkit');
  info.set_version(WebKit.get_major_version(), WebKit.get_minor_version(), WebKit.get_micro_version());
  return info;
}

new Gio.Application().hold();
window.connect('destroy', () => Gtk.main_quit());
Gtk.main();
