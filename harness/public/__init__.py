"""Public record folders, judged as data: metadata, logs, statistics and code are read, nothing is executed or imported.

check_folder(path, readings) -> FolderReport      one folder; bounded in time and memory whatever the folder holds
check_folders(paths, readings) -> list            many, on several processes
"""
